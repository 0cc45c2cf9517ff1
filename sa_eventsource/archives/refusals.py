"""Who must be done with a stream before its events leave the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, or_, select

from sa_eventsource.archives.missed_anonymisations import refuse_while_anonymising
from sa_eventsource.checkpoints import of_consumer
from sa_eventsource.consumers import consumers_on, followers_of
from sa_eventsource.integrity import StoredTree
from sa_eventsource.mapping import is_parked_command, is_scheduled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

    from sa_eventsource.archives.moving import StreamToMove

_SHOWN = 5


def refuse_unfinished(stream: StreamToMove, last: Row[Any]) -> None:
    """Refuse a stream whose events somebody has yet to take: he would never get them.

    Raises:
        ArchiveError: It is one.
    """
    behind = _followers_behind(stream)
    if behind:
        raise stream.error(
            f"{', '.join(behind)} has yet to take its events. Let workers catch up; retire what no longer exists "
            "(sa-eventsource retire)"
        )
    refuse_while_anonymising(stream)
    parked = stream.tables.parked_events
    names = stream.connection.scalars(select(parked.c.projection_name).where(*stream.of_stream(parked)).distinct()).all()
    if names:
        raise stream.error(f"events of it are parked for {', '.join(sorted(names))}. Retry or drop them (sa-eventsource parked)")
    _refuse_waiting_time_outs(stream)
    if stream.tables.merkle_tree is not None:
        done = StoredTree(stream.connection, stream.tables.merkle_tree).last_position()
        if done < last.position:
            raise stream.error("its events are not in the Merkle tree yet. A worker puts them there, and so does grow_tree()")


def _refuse_waiting_time_outs(stream: StreamToMove) -> None:
    """Refuse a process that has scheduled a command which has yet to run: its handler asks the process whether it still matters.

    There will be no new ones: a process whose stream is closed reacts to nothing.

    Raises:
        ArchiveError: It is one.
    """
    commands = stream.tables.commands
    if commands is None:
        return
    waits = or_(is_scheduled(commands), is_parked_command(commands))
    of_process = commands.c.process_type == stream.definition.aggregate_type, commands.c.process_id == stream.aggregate_id
    found = select(commands.c.command_id).where(waits, *of_process).order_by(commands.c.due_at)
    ids = stream.connection.scalars(found.limit(_SHOWN)).all()
    if ids:
        raise stream.error(
            f"it has scheduled commands that have yet to run: {', '.join(map(str, ids))}. Wait for them, or discard them "
            "(sa-eventsource commands discard)"
        )


def refuse_older_views(stream: StreamToMove, last: Row[Any]) -> None:
    """Refuse a stream that somebody may see as it was before it was closed: he could append to it, where its events have been.

    Raises:
        ArchiveError: It is one.
    """
    viewer = stream.database.older_view(stream.connection, last.transaction_id)
    if viewer is not None:
        raise stream.error(
            f"{viewer} may see it as it was before it was closed, and append to it. Archive it when that has ended, and in another "
            "transaction than that which closed it"
        )


def _followers_behind(stream: StreamToMove) -> Sequence[str]:
    """Name those who have yet to take one of the stream's events: of a kind that they take, or any, where that is not known here.

    Strong models have taken them, with the append.
    """
    events, positions = stream.tables.events, stream.tables.projection_positions
    taken = stream.database.taken(events, positions)
    known = _names_of_strong(stream)
    behind = set()
    for consumer in consumers_on(stream.tables):
        for follower in followers_of(consumer, stream.connection.dialect):
            known.add(follower.name)
            is_taken = exists().where(positions.c.projection_name == follower.name, taken).correlate(events)
            left = exists().where(*stream.of_stream(events), of_consumer(consumer), ~is_taken)
            if stream.connection.scalar(select(left)):
                behind.add(follower.name)
    left = exists().where(*stream.of_stream(events), ~taken).correlate(positions)
    others = stream.connection.scalars(select(positions.c.projection_name).where(left)).all()
    return sorted(behind.union(name for name in others if name not in known))


def _names_of_strong(stream: StreamToMove) -> set[str]:
    strong = [each for each in stream.tables.read_models.values() if each.is_strong]
    return {follower.name for each in strong for follower in followers_of(each, stream.connection.dialect)}
