"""How far each follower of a log has come, and whether all is well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import func, select, text

from sa_eventsource.checkpoints import STOPPED, WAITING, Checkpoint, Lag, lag, read_checkpoint
from sa_eventsource.consumers import Subscription, followers_of
from sa_eventsource.projections.transaction import begin

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Consumer

Kind: TypeAlias = Literal["strong model", "eventual model", "subscription"]
State: TypeAlias = Literal["running", "new", "retrying", "waiting", "stopped", "outdated"]
"""It takes events as they come (or, a strong model, has them); it has not taken any yet; it waits to try an event again; it waits
for something other than an event, such as a lock or a missing column; it has
stopped at one; its rows were made under another declaration, so that it must be rebuilt or given a new version."""


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    """How far a read model or a subscription has come.

    Attributes:
        name: The name that its checkpoint is kept under; from the second version of a model on, with the version.
        kind: What it is.
        model: The read model's class; None for a subscription.
        version: The model's ``__version__``; 1 for a subscription.
        event_types: Stored names of the event types that it takes.
        state: See :data:`State`; of one that is split, the worst of its parts.
        position: The last position that it has taken.
        lag_events: How many events it has yet to take; 0 for a strong model.
        lag_seconds: How long ago the oldest of them was recorded; 0.0 if there is none.
        processed_at: When it was last brought further or rebuilt, in UTC; None if never.
        parked_events: How many events are put aside.
        error: What it waits for, or went wrong with the event that it retries or has stopped at, with the traceback; the last line
            says it in short. None if nothing did.
    """

    name: str
    kind: Kind
    model: type[Any] | None
    version: int
    event_types: tuple[str, ...]
    state: State
    position: int
    lag_events: int
    lag_seconds: float
    processed_at: datetime | None
    parked_events: int
    error: str | None


@dataclass(frozen=True, slots=True)
class OldestTransaction:
    """The transaction that has been running for longest, and may yet commit events; nobody waits for it.

    Attributes:
        process_id: Of the server's process.
        application: Its ``application_name``.
        seconds: How long it has been running.
    """

    process_id: int
    application: str
    seconds: float


def status_of(session: Session, consumer: Consumer) -> ConsumerStatus:
    """Tell how far a consumer has come. Uses a read-only transaction of its own."""
    connection = begin(session, consumer)
    followers = followers_of(consumer, connection.dialect)
    found = [read_checkpoint(connection, each) for each in followers]
    kind = _kind(consumer)
    behind = Lag()
    if kind != "strong model":
        for follower, checkpoint in zip(followers, found, strict=True):
            behind += lag(connection, follower, checkpoint)
    parked = consumer.tables.parked_events
    number = connection.scalar(select(func.count()).select_from(parked).where(parked.c.projection_name == consumer.name))
    session.rollback()
    model: type[Any] | None = getattr(consumer, "model", None)
    return ConsumerStatus(
        name=consumer.name,
        kind=kind,
        model=model,
        version=getattr(model, "__version__", 1),
        event_types=tuple(consumer.event_classes),
        state=_state(consumer, kind, found),
        position=max(each.position for each in found),
        lag_events=behind.events,
        lag_seconds=behind.seconds,
        processed_at=max((each.processed_at for each in found if each.processed_at is not None), default=None),
        parked_events=number or 0,
        error=next((each.error for each in found if each.error is not None), None),
    )


def oldest_transaction(connection: Connection) -> OldestTransaction | None:
    """Find the transaction in this database that has an id and has been running for longest; None if none is, and on SQLite.

    The server shows others' names only to those who may see them (role ``pg_read_all_stats``).
    """
    if connection.dialect.name != "postgresql":
        return None
    row = connection.execute(
        text("""
            SELECT pid, coalesce(application_name, ''), extract(epoch FROM clock_timestamp() - xact_start)
            FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL AND xact_start IS NOT NULL
            ORDER BY age(backend_xid) DESC
            LIMIT 1
        """)
    ).one_or_none()
    return None if row is None else OldestTransaction(row[0], row[1], float(row[2]))


def problems(statuses: list[ConsumerStatus], *, max_lag_seconds: float | None = None) -> list[str]:
    """List what is wrong, for a health check; empty if all is well.

    Args:
        statuses: What :meth:`ReadModelManager.status` gave.
        max_lag_seconds: How far behind one may be; None for any.
    """
    found = []
    for each in statuses:
        if each.state in ("waiting", "stopped", "outdated"):
            reason = f": {each.error.strip().splitlines()[-1]}" if each.error else ""
            found.append(f"{each.name} is {each.state}{reason}")
        if each.parked_events:
            found.append(f"{each.name} has put {each.parked_events} events aside")
        if max_lag_seconds is not None and each.lag_seconds > max_lag_seconds:
            found.append(f"{each.name} is {each.lag_seconds:.1f} s behind ({each.lag_events} events)")
    return found


def _kind(consumer: Consumer) -> Kind:
    if isinstance(consumer, Subscription):
        return "subscription"
    return "strong model" if getattr(consumer, "is_strong", False) else "eventual model"


def _state(consumer: Consumer, kind: Kind, found: list[Checkpoint]) -> State:
    if any(each.declaration not in (None, consumer.fingerprint) for each in found):
        return "outdated"
    if any(each.status == STOPPED for each in found):
        return "stopped"
    if any(each.status == WAITING for each in found):
        return "waiting"
    if any(each.failed_position is not None for each in found):
        return "retrying"
    if kind != "strong model" and any(each.declaration is None for each in found):
        return "new"
    return "running"
