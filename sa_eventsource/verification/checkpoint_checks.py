"""Do the checkpoints fit the log, the cluster and the code? Do parked events refer to events?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select

from sa_eventsource.checkpoints import STATUSES, Checkpoint, Snapshot, cluster_identifier, of_consumer, of_taken, read_checkpoints
from sa_eventsource.consumers import READER, Subscription, consumers_on, followers_of
from sa_eventsource.counting import counted
from sa_eventsource.store import current_snapshot, database_of
from sa_eventsource.verification.findings import MOST_FINDINGS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sqlalchemy import Connection

    from sa_eventsource.consumers import Follower
    from sa_eventsource.mapping import EventSourceTables


@dataclass(frozen=True, slots=True)
class _Log:
    """What checkpoints are compared with.

    Attributes:
        last: The last position.
        cluster: Identifier of the database cluster; None on SQLite.
        end: The transaction id that the cluster gives out next; None on SQLite.
    """

    last: int
    cluster: str | None
    end: int | None


def check_checkpoints(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find checkpoints that do not fit the log, the cluster or the code, and those of what is not declared."""
    strong = [each for _, each in sorted(tables.read_models.items()) if each.is_strong]
    followers = {
        follower.name: follower
        for consumer in (*consumers_on(tables), *strong)
        for follower in followers_of(consumer, connection.dialect)
    }
    last = connection.scalar(select(func.coalesce(func.max(tables.events.c.position), 0))) or 0
    log = _Log(last, None, None)
    if not database_of(connection.dialect).has_one_writer:
        cluster, now = connection.execute(select(cluster_identifier(), current_snapshot())).one()
        log = _Log(last, cluster, Snapshot.parse(now).xmax)
    checkpoints = dict(read_checkpoints(connection, tables))
    for name, checkpoint in checkpoints.items():
        follower = followers.get(name)
        if checkpoint.declaration == READER and follower is None:
            pass  # nothing declares a reader
        elif follower is None:
            message = (
                "nothing of this name is declared: retire it, unless code that declares it is still running. Where it was only "
                "renamed, keep the former name, or what follows the log under the new one starts over."
            )
            yield Finding("checkpoints", name, message, is_warning=True)
        elif checkpoint.declaration not in (None, follower.consumer.fingerprint):
            message = "what was done so far was done under another declaration: rebuild it, or give it a new __version__"
            yield Finding("checkpoints", name, message)
        elif checkpoint.is_readable and checkpoint.until is None and checkpoint.declaration is not None:
            yield from _passed_over(connection, follower, checkpoint)
        for message in _misfits(checkpoint, log):
            yield Finding("checkpoints", name, message)
    for definition in strong:
        begun = checkpoints.get(definition.name, Checkpoint())
        if begun.declaration is None and connection.scalar(select(select(1).where(of_consumer(definition)).exists())):
            message = "the log has events from before its checkpoint: its rows may lack them, unless a former release rebuilt it"
            yield Finding("checkpoints", definition.name, f"{message}. Rebuild it", is_warning=True)


def _misfits(checkpoint: Checkpoint, log: _Log) -> Iterator[str]:
    snapshots = [text for text in (checkpoint.since, checkpoint.until) if text is not None]
    if not checkpoint.is_readable:
        yield f"its snapshot cannot be read: {' and '.join(map(repr, snapshots))}. Rebuild the model, or restore the row"
    elif checkpoint.cluster not in (None, log.cluster):
        yield (
            f"it is of database cluster {checkpoint.cluster}, and this is {log.cluster}; a worker that starts translates it, or "
            "says why not (sa-eventsource adopt)"
        )
    elif log.end is not None and any(Snapshot.parse(each).xmax > log.end for each in snapshots):
        yield f"its snapshot is from the future: it ends after transaction {log.end}, the next one of this cluster"
    elif (
        checkpoint.since and checkpoint.until and not Snapshot.parse(checkpoint.until).sees_all_of(Snapshot.parse(checkpoint.since))
    ):
        yield "its window ends before it begins: what lies between is never taken. Rebuild the model, or restore the row"
    if checkpoint.status not in STATUSES:
        yield f"its status is {checkpoint.status!r}, which is none of {', '.join(STATUSES)}. Rebuild the model, or restore the row"
    if checkpoint.position > log.last:
        where = f"at position {checkpoint.position}, and the last event has {log.last}"
        yield f"it is ahead of the log: {where}. Was an older log restored?"


def _passed_over(connection: Connection, follower: Follower, checkpoint: Checkpoint) -> Iterator[Finding]:
    """Find events that the checkpoint has passed without taking them: it keeps the highest position that was taken."""
    if checkpoint.since is None:
        return
    events = follower.tables.events
    where, parameters = of_taken(follower, checkpoint, follower.streams(without_parked=False))
    statement = select(func.count(), func.min(events.c.position)).where(events.c.position > checkpoint.position, *where)
    number, first = connection.execute(statement, parameters).one()
    if number:
        # A subscription's declaration may have got another type of event, of which it takes what comes from then on.
        is_subscription = isinstance(follower.consumer, Subscription)
        advice = "it takes no more of them" if is_subscription else "Rebuild it"
        passed = counted(number, "event")
        message = f"it has passed {passed} that it has not taken, the first at position {first}. {advice}"
        yield Finding("checkpoints", follower.name, message, is_warning=is_subscription)


def check_parked(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find references to events that are not there, or not where they say."""
    events, parked = tables.events, tables.parked_events
    both = parked.outerjoin(events, events.c.event_id == parked.c.event_id)
    is_elsewhere = or_(
        events.c.position != parked.c.position,
        events.c.aggregate_type != parked.c.aggregate_type,
        events.c.aggregate_id != parked.c.aggregate_id,
    )
    missing = events.c.event_id.is_(None)
    found = select(parked.c.projection_name, parked.c.event_id, parked.c.position, missing.label("is_missing")).select_from(both)
    wrong = found.where(or_(missing, and_(~missing, is_elsewhere))).order_by(parked.c.projection_name, parked.c.position)
    for row in connection.execute(wrong.limit(MOST_FINDINGS)):
        what = "is not in the log" if row.is_missing else "is in the log at another place"
        yield Finding("parked events", row.projection_name, f"event {row.event_id}, parked at position {row.position}, {what}")
