"""How far each follower of a log has come, and whether all is well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import exists, func, select

from sa_eventsource.checkpoints import (
    COUNTED,
    STOPPED,
    WAITING,
    Checkpoint,
    Lag,
    held_by,
    is_moved,
    lag,
    of_consumer,
    read_checkpoint,
)
from sa_eventsource.consumers import Reader, Subscription, followers_of
from sa_eventsource.counting import counted
from sa_eventsource.projections.other_shards import other_shards
from sa_eventsource.projections.transaction import begin
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Consumer
    from sa_eventsource.projections.command_backlog import CommandBacklog
    from sa_eventsource.projections.undeclared import UndeclaredCheckpoint

Kind: TypeAlias = Literal["strong model", "eventual model", "subscription", "reader"]
State: TypeAlias = Literal["running", "new", "retrying", "waiting", "stopped", "unbuilt", "outdated", "moved", "unreadable"]
"""What holds of a consumer; the later in this list, the more there is to be done.

Nothing is known to stand in its way (a strong model has its events); it has not taken any yet; it waits to try an event again; it
waits for something other than an event, such as a lock or a missing column; it has stopped at an event. A strong model was declared
when the log had events already, which its rows may lack until it is rebuilt; rows were made under another declaration, so that
the model must be rebuilt or given a new version; the checkpoint, or the log, is of another database cluster; the checkpoint
cannot be read.
"""

WELL: tuple[State, ...] = ("running", "new", "retrying")
"""The states in which nobody has to do anything."""

_REASONS: dict[State, str] = {
    "unbuilt": "the log has events from before its checkpoint, which its rows may lack; rebuild it",
    "outdated": "its rows were made under another declaration; rebuild it, or give the new declaration a new __version__",
    "moved": "the log came from another database cluster; a worker puts that right, or says why not (sa-eventsource adopt)",
    "unreadable": "its row in the table of checkpoints is damaged; rebuild the model, or restore the row",
}


_LONG = 60.0
"""Seconds after which a checkpoint is said to be held: longer than a worker's own steps, unless they wait for something."""


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    """How far a read model, a subscription or a reader (:meth:`EventStore.follow() <sa_eventsource.EventStore.follow>`) has come.

    Attributes:
        name: The name that its checkpoint is kept under; from the second version of a model on, with the version.
        kind: What it is.
        model: The read model's class; None for others.
        version: The model's ``__version__``; 1 for others.
        event_types: Stored names of the event types that it takes; none for a reader, as only its own code knows them.
        state: See :data:`State`; of one that is split, the worst of its parts.
        position: The last position that it has taken.
        lag_events: How many events it has yet to take, counted up to 10,000, for each of its shards; 0 for a strong model; of all
            types for a reader, which passes those that it does not ask for when it asks.
        lag_seconds: How long ago the oldest of them was recorded; 0.0 if there is none.
        processed_at: When it last advanced or was rebuilt, in UTC; None if never.
        parked_events: How many events are parked.
        error: What it waits for, or went wrong with the event that it retries or has stopped at, with the traceback; the last line
            says it in short. None if nothing did.
        lag_is_whole: Whether *lag_events* are all that it has yet to take; otherwise there are more.
        lag_since: When the oldest of them was recorded, in UTC; None if there is none. What was recorded before it has taken or
            parked.
        positions: The last position of each of its shards, in their order; of one that is not split, one.
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
    lag_is_whole: bool = True
    lag_since: datetime | None = None
    positions: tuple[int, ...] = ()

    @property
    def lag_in_words(self) -> str:
        """How many events it has yet to take, such as "1 event" or "more than 10000 events"."""
        number = counted(self.lag_events, "event")
        return number if self.lag_is_whole else f"more than {number}"


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
    """Report how far a consumer has come. Uses a read-only transaction of its own."""
    connection = begin(session, consumer)
    kind = _kind(consumer)
    parts = [(follower, read_checkpoint(connection, follower)) for follower in followers_of(consumer, connection.dialect)]
    checkpoints = [checkpoint for _, checkpoint in parts]
    behind = Lag()
    if kind != "strong model":
        for follower, checkpoint in parts:
            # Of one that cannot be read nothing is known to be taken.
            known = checkpoint if checkpoint.is_readable else Checkpoint(declaration="unreadable")
            behind += lag(connection, follower, known, most=COUNTED)
    parked = consumer.tables.parked_events
    number = connection.scalar(select(func.count()).select_from(parked).where(parked.c.projection_name == consumer.name))
    state = _state(connection, consumer, kind, checkpoints)
    error = next((checkpoint.error for checkpoint in checkpoints if checkpoint.error is not None), None)
    if state in WELL and behind.events:
        held = held_by(connection, consumer.tables, [follower.name for follower, _ in parts], seconds=_LONG)
        state, error = ("waiting", held) if held is not None else (state, error)
    session.rollback()
    model: type[Any] | None = getattr(consumer, "model", None)
    return ConsumerStatus(
        name=consumer.name,
        kind=kind,
        model=model,
        version=getattr(model, "__version__", 1),
        event_types=tuple(consumer.event_classes),
        state=state,
        position=max(checkpoint.position for checkpoint in checkpoints),
        lag_events=behind.events,
        lag_seconds=behind.seconds,
        processed_at=max(
            (checkpoint.processed_at for checkpoint in checkpoints if checkpoint.processed_at is not None), default=None
        ),
        parked_events=number or 0,
        error=error,
        lag_is_whole=behind.is_whole,
        lag_since=behind.oldest,
        positions=tuple(checkpoint.position for checkpoint in checkpoints),
    )


def oldest_transaction(connection: Connection) -> OldestTransaction | None:
    """Find the transaction in this database that has an id and has been running for longest; None if none is, and on SQLite.

    The server shows others' names only to those who may see them (role ``pg_read_all_stats``).
    """
    oldest = database_of(connection.dialect).oldest_transaction(connection)
    return None if oldest is None else OldestTransaction(*oldest)


def problems(
    statuses: list[ConsumerStatus],
    backlog: CommandBacklog | None = None,
    undeclared: Sequence[UndeclaredCheckpoint] = (),
    *,
    max_lag_seconds: float | None = None,
) -> list[str]:
    """List what is wrong, for a health check; empty if all is well.

    Args:
        statuses: What :meth:`ReadModelManager.status` gave.
        backlog: What :meth:`ReadModelManager.commands` gave.
        undeclared: What :meth:`ReadModelManager.undeclared` gave.
        max_lag_seconds: How far behind one may be; None for any, and a minute for commands.
    """
    wrong = [] if backlog is None else backlog.problems(max_lag_seconds=max_lag_seconds)
    for status in statuses:
        if status.state not in WELL:
            reason = _REASONS.get(status.state) or (None if status.error is None else in_short(status.error))
            wrong.append(f"{status.name} is {status.state}{f': {reason}' if reason else ''}")
        if status.parked_events:
            wrong.append(f"{status.name} has parked {counted(status.parked_events, 'event')}")
        if max_lag_seconds is not None and status.lag_seconds > max_lag_seconds:
            wrong.append(f"{status.name} is {status.lag_seconds:.1f} s behind ({status.lag_in_words})")
    return wrong + [str(each) for each in undeclared if each.is_problem]


def _kind(consumer: Consumer) -> Kind:
    if isinstance(consumer, Reader):
        return "reader"
    if isinstance(consumer, Subscription):
        return "subscription"
    return "strong model" if getattr(consumer, "is_strong", False) else "eventual model"


def _state(connection: Connection, consumer: Consumer, kind: Kind, checkpoints: list[Checkpoint]) -> State:
    state: State = "running"
    if not all(checkpoint.is_readable for checkpoint in checkpoints):
        state = "unreadable"
    elif kind != "strong model" and any(is_moved(connection, consumer.tables, checkpoint) for checkpoint in checkpoints):
        state = "moved"
    elif any(checkpoint.declaration not in (None, consumer.fingerprint) for checkpoint in checkpoints):
        state = "outdated"
    elif any(checkpoint.status == STOPPED for checkpoint in checkpoints):
        state = "stopped"
    elif any(checkpoint.status == WAITING for checkpoint in checkpoints):
        state = "waiting"
    elif any(checkpoint.failed_position is not None for checkpoint in checkpoints):
        state = "retrying"
    elif any(checkpoint.declaration is None for checkpoint in checkpoints) and other_shards(connection, consumer):
        state = "outdated"
    elif any(checkpoint.declaration is None for checkpoint in checkpoints):
        state = "new" if kind != "strong model" else _state_without_checkpoint(connection, consumer)
    return state


def _state_without_checkpoint(connection: Connection, strong: Consumer) -> State:
    """A strong model has a checkpoint from its first event on, unless there were events before it."""
    return "unbuilt" if connection.scalar(select(exists().where(of_consumer(strong)))) else "running"


def in_short(error: str) -> str:
    """Get the last line of a stored error, which says what went wrong, without the module of the exception."""
    said = (error.strip().splitlines() or [""])[-1]
    kind, separator, message = said.partition(": ")
    return said if " " in kind else f"{kind.rpartition('.')[2]}{separator}{message}"
