"""Do the checkpoints fit the log, the cluster and the code? Do parked events refer to events?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select

from sa_eventsource.checkpoints import Checkpoint, Snapshot, cluster_identifier, read_checkpoints
from sa_eventsource.consumers import consumers_on, followers_of
from sa_eventsource.store import current_snapshot
from sa_eventsource.verification.findings import MOST_FINDINGS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sqlalchemy import Connection

    from sa_eventsource.consumers import Follower
    from sa_eventsource.mapping import EventSourceTables


def check_checkpoints(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find checkpoints ahead of the log, of another cluster, of another declaration, and of what is not declared."""
    consumers = [*consumers_on(tables), *(each for each in tables.read_models.values() if each.is_strong)]
    followers = {each.name: each for consumer in consumers for each in followers_of(consumer, connection.dialect)}
    last = connection.scalar(select(func.coalesce(func.max(tables.events.c.position), 0))) or 0
    cluster = end = None
    if connection.dialect.name == "postgresql":
        cluster, now = connection.execute(select(cluster_identifier(), current_snapshot())).one()
        end = Snapshot.parse(now).xmax
    for name, checkpoint in read_checkpoints(connection, tables):
        for message, is_warning in _problems(followers.get(name), checkpoint, last, cluster, end):
            yield Finding("checkpoints", name, message, is_warning)


def _problems(
    follower: Follower | None, checkpoint: Checkpoint, last: int, cluster: str | None, end: int | None
) -> Iterator[tuple[str, bool]]:
    if follower is None:
        yield "nothing of this name is declared: retire it, unless code that declares it is still running", True
    elif checkpoint.declaration not in (None, follower.consumer.fingerprint):
        yield "what was done so far was done under another declaration: rebuild it, or give it a new __version__", False
    if checkpoint.cluster not in (None, cluster):
        yield (
            (
                f"it is of database cluster {checkpoint.cluster}, and this is {cluster}; a worker that starts translates it, or "
                "says why not (sa-eventsource adopt)"
            ),
            False,
        )
    elif end is not None and any(
        Snapshot.parse(snapshot).xmax > end for snapshot in (checkpoint.since, checkpoint.until) if snapshot is not None
    ):
        yield f"its snapshot is from the future: it ends behind transaction {end}, the next of this cluster", False
    if checkpoint.position > last:
        yield (
            f"it is ahead of the log: at position {checkpoint.position}, and the last event has {last}. Was an older log restored?",
            False,
        )


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
