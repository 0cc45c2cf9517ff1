"""What a session owes the log, kept as it happens: nothing of it is found again in the session's dirty set.

The invariant: no commit returns while an instance in the session holds events that are not in the log. An aggregate with pending
events is held here, strongly, and flagged as modified, without which SQLAlchemy takes the session for clean and flushes nothing.
What is applied while a flush runs is flagged when it has ended: a flag set meanwhile would be reset. What is applied when no flush
can follow any more, between ``prepare()`` and the end of the commit, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.attributes import flag_modified, instance_state

from sa_eventsource.aggregates import AggregateRoot, books_of
from sa_eventsource.exceptions import InactiveTransactionError
from sa_eventsource.session.sqlalchemy_internals import innermost
from sa_eventsource.session.tenants_of_instances import take_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID
    from weakref import WeakSet

    from sqlalchemy import Connection
    from sqlalchemy.orm import InstanceState, Session, SessionTransaction

    from sa_eventsource.events import PendingEvent
    from sa_eventsource.mapping import EventSourceTables


FIRST_SWEEP = 64
"""How many instances with flushed events there may be before the first look for those that are gone."""


@dataclass(slots=True)
class Written:
    """What was appended in one transaction or savepoint, and in the savepoints within it that were released.

    Attributes:
        last_event: Id of the last event.
        first_events: Id of the first event in each log; None before there is one.
        streams: Identity keys of the aggregates that were appended to: since then, the session may have loaded them once more. Only
            in a savepoint, since the rollback of a transaction expires all instances.
        new: The instances that are new in the transaction and had events flushed; likewise, and None until there is one.
    """

    last_event: UUID | None = None
    first_events: dict[tuple[Connection, EventSourceTables], UUID] | None = None
    streams: set[Any] = field(default_factory=set)
    new: WeakSet[InstanceState[Any]] | None = None


@dataclass(slots=True)
class Flushed:
    """Events of one instance that a transaction wrote.

    Attributes:
        by: The savepoint or transaction whose rollback undoes it.
        aggregate_id: The instance's id as stored; the instance itself may be expired.
        events: The events.
    """

    by: SessionTransaction
    aggregate_id: str
    events: Sequence[PendingEvent]


@dataclass(slots=True, eq=False)
class Ledger:
    """What one session owes and has written.

    Attributes:
        pending: The aggregates with pending events.
        is_flushing: Whether a flush is at work, and resets the flags of what is modified meanwhile.
        flushes_in: The savepoint that the flush is in; None where there is none.
        written: What was appended, by the transaction or savepoint that would undo it.
        flushed: The events of each instance that the transaction made persistent: a rollback that makes it transient gives them
            back, as any entity keeps its attributes.
        sweep_at: How many of these there may be before those are dropped whose instance is gone: what the session and the
            application have let go is let go here.
        allowed: What handlers of read models have changed, for the flush that is at work to write: nobody else may.
        rewound: The instances that got their events back in the rollback that runs.
        unflagged: By savepoint that was begun while the flush was at work, the versions of instances before they got events in it.
    """

    pending: dict[InstanceState[Any], AggregateRoot[Any]] = field(default_factory=dict)
    is_flushing: bool = False
    flushes_in: SessionTransaction | None = None
    written: dict[SessionTransaction, Written] = field(default_factory=dict)
    flushed: dict[InstanceState[Any], list[Flushed]] = field(default_factory=dict)
    sweep_at: int = FIRST_SWEEP
    allowed: set[InstanceState[Any]] = field(default_factory=set)
    rewound: list[tuple[AggregateRoot[Any], str, list[PendingEvent]]] = field(default_factory=list)
    unflagged: dict[SessionTransaction, dict[InstanceState[Any], int]] = field(default_factory=dict)


_LEDGER = "_sa_eventsource_ledger"
"""Key in a session's ``__dict__``: not in its ``info``, which an application may give to another session."""


def ledger_of(session: Session) -> Ledger:
    """Get a session's ledger."""
    ledger: Ledger | None = session.__dict__.get(_LEDGER)  # looked up here: it is called for each event that is applied
    if ledger is None:
        ledger = session.__dict__[_LEDGER] = Ledger()
    return ledger


def find_ledger(session: Session) -> Ledger | None:
    """Get a session's ledger if it has begun one."""
    ledger: Ledger | None = session.__dict__.get(_LEDGER)
    return ledger


def check_active(session: Session, aggregate: AggregateRoot[Any]) -> None:
    """Refuse an event that no flush could write any more.

    Raises:
        InactiveTransactionError: The session's transaction is prepared or committed, or a flush has failed in it.
    """
    if not session.is_active:
        raise InactiveTransactionError(repr(aggregate))


def before_attach(session: Session, state: InstanceState[Any]) -> None:
    """Refuse an aggregate that brings events which no flush could write any more, and what is another tenant's.

    Raises:
        InactiveTransactionError: As :func:`check_active`.
        TenantChangedError: A session of another tenant has loaded or written it.
    """
    if "info" in state.__dict__:
        take_in(session, state)
    instance = state.obj()
    if isinstance(instance, AggregateRoot) and books_of(instance).pending and not session.is_active:
        raise InactiveTransactionError(repr(instance))


def keep(session: Session, aggregate: AggregateRoot[Any]) -> None:
    """Hold an aggregate that has pending events until they are written or discarded."""
    ledger = ledger_of(session)
    state = instance_state(aggregate)
    ledger.pending[state] = aggregate
    if not ledger.is_flushing:
        _flag(state, aggregate)
    else:
        _note_savepoints(session, ledger, state, books_of(aggregate).pending[-1].version - 1)


def _note_savepoints(session: Session, ledger: Ledger, state: InstanceState[Any], version: int) -> None:
    """Note in which savepoints of the flush an event was applied: it is not flagged, so SQLAlchemy's rollback would not find it."""
    level: SessionTransaction | None = innermost(session)
    while level is not None and level is not ledger.flushes_in:
        if level.nested:
            ledger.unflagged.setdefault(level, {}).setdefault(state, version)
        level = level.parent


def discard(session: Session, state: InstanceState[Any]) -> None:
    """Let go of an aggregate that has left the session, or whose pending events are discarded."""
    ledger = find_ledger(session)
    if ledger is not None:
        ledger.pending.pop(state, None)


def begin_flush(session: Session) -> None:
    """Note that a flush is at work, which ends in ``after_flush_postexec`` or in a rollback."""
    ledger = ledger_of(session)
    if not ledger.is_flushing:
        ledger.is_flushing = True
        ledger.flushes_in = session.get_nested_transaction()


def is_in_flush(session: Session) -> bool:
    """Check whether a session is in a savepoint that was begun while a flush was at work, by a hook or a handler."""
    ledger = find_ledger(session)
    if ledger is None or not ledger.is_flushing:
        return False
    savepoint = session.get_nested_transaction()
    return savepoint is not None and savepoint is not ledger.flushes_in


def before_commit(session: Session) -> None:
    """Flag what was applied since the last flush of a commit, for one more; not where a savepoint is released within a flush."""
    if not is_in_flush(session):
        end_flush(session)


def end_flush(session: Session, context: object = None) -> None:
    """Flag what was applied while a flush was at work, for the next one; with its *context*, all is written."""
    ledger = find_ledger(session)
    if ledger is not None:
        ledger.is_flushing = False
        ledger.flushes_in = None
        ledger.unflagged.clear()
        if context is not None:
            ledger.allowed.clear()
        if ledger.pending:
            flag_pending(session)


def flag_pending(session: Session) -> None:
    """Flag what has pending events where SQLAlchemy may have reset the flag; a flush that is at work will do it when it ends."""
    ledger = find_ledger(session)
    if ledger is not None and not ledger.is_flushing:
        for state, aggregate in ledger.pending.items():
            _flag(state, aggregate)


def _flag(state: InstanceState[Any], aggregate: AggregateRoot[Any]) -> None:
    if not state.modified and "version" in state.dict:
        flag_modified(aggregate, "version")


def joined(session: Session, instance: object) -> None:
    """Hold an aggregate that comes into the session with pending events."""
    if isinstance(instance, AggregateRoot) and books_of(instance).pending:
        keep(session, instance)
