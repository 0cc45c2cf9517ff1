"""What a session owes the log and what it has written, kept as it happens: nothing of it is found again in the session's dirty set.

The invariant: no commit returns while an instance in the session holds events that are not in the log. An aggregate with pending
events is held here, strongly, and flagged as modified, without which SQLAlchemy takes the session for clean and flushes nothing.
What is applied while a flush runs is flagged when it has ended: a flag set meanwhile would be reset. What is applied when no flush
can follow any more, between ``prepare()`` and the end of the commit, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy.orm.attributes import flag_modified, instance_state

from sa_eventsource.aggregates import AggregateRoot, books_of, make_state_again, rewind
from sa_eventsource.exceptions import InactiveTransactionError
from sa_eventsource.session.sqlalchemy_internals import innermost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.orm import InstanceState, Session, SessionTransaction

    from sa_eventsource.events import PendingEvent
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.store import Appended, StreamAppend


_FIRST_SWEEP = 64


@dataclass(slots=True)
class Written:
    """What was appended in one transaction or savepoint, and in the savepoints within it that were released.

    Attributes:
        last_event: Id of the last event.
        first_events: Id of the first event in each log; None before there is one.
        streams: Identity keys of aggregates that were appended to without their instance; only in a savepoint, since the rollback
            of a transaction expires all instances.
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
        written: What was appended, by the transaction or savepoint that would undo it.
        flushed: The events of each instance that the transaction made persistent: a rollback that makes it transient gives them
            back, as any entity keeps its attributes.
        sweep_at: How many of these there may be before those are dropped whose instance is gone: what the session and the
            application have let go is let go here.
        rewound: The instances that got their events back in the rollback that runs.
    """

    pending: dict[InstanceState[Any], AggregateRoot[Any]] = field(default_factory=dict)
    is_flushing: bool = False
    written: dict[SessionTransaction, Written] = field(default_factory=dict)
    flushed: dict[InstanceState[Any], list[Flushed]] = field(default_factory=dict)
    sweep_at: int = _FIRST_SWEEP
    rewound: list[tuple[AggregateRoot[Any], str, list[PendingEvent]]] = field(default_factory=list)


_LEDGER = "_sa_eventsource_ledger"
"""Key in a session's ``__dict__``: not in its ``info``, which an application may give to another session."""

_undone: list[Callable[[Session], None]] = []


def ledger_of(session: Session) -> Ledger:
    """Get a session's ledger."""
    ledger: Ledger | None = session.__dict__.get(_LEDGER)
    if ledger is None:
        ledger = session.__dict__[_LEDGER] = Ledger()
    return ledger


def _find(session: Session) -> Ledger | None:
    return session.__dict__.get(_LEDGER)


def on_savepoint_undone(listener: Callable[[Session], None]) -> Callable[[Session], None]:
    """Have *listener* called when a savepoint is rolled back in which events were appended."""
    _undone.append(listener)
    return listener


def check_active(session: Session, aggregate: AggregateRoot[Any]) -> None:
    """Refuse an event that no flush could write any more.

    Raises:
        InactiveTransactionError: The session's transaction is prepared or committed, or a flush has failed in it.
    """
    if not session.is_active:
        raise InactiveTransactionError(repr(aggregate))


def before_attach(session: Session, state: InstanceState[Any]) -> None:
    """Refuse an aggregate that brings events which no flush could write any more.

    Raises:
        InactiveTransactionError: As :func:`check_active`.
    """
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


def discard(session: Session, state: InstanceState[Any]) -> None:
    """Let go of an aggregate that has left the session, or whose pending events are discarded."""
    ledger: Ledger | None = session.__dict__.get(_LEDGER)
    if ledger is not None:
        ledger.pending.pop(state, None)


def begin_flush(session: Session) -> None:
    """Note that SQLAlchemy's unit of work is at it, which ends in ``after_flush_postexec`` or in a rollback."""
    ledger_of(session).is_flushing = True


def end_flush(session: Session, _context: object = None) -> None:
    """Flag what was applied while a flush was at work, for the next one."""
    ledger: Ledger | None = session.__dict__.get(_LEDGER)
    if ledger is not None:
        ledger.is_flushing = False
        if ledger.pending:
            flag_pending(session)


def flag_pending(session: Session) -> None:
    """Flag what has pending events where SQLAlchemy may have reset the flag; a flush that is at work will do it when it ends."""
    ledger = _find(session)
    if ledger is not None and not ledger.is_flushing:
        for state, aggregate in ledger.pending.items():
            _flag(state, aggregate)


def _flag(state: InstanceState[Any], aggregate: AggregateRoot[Any]) -> None:
    if not state.modified and "version" in state.dict:
        flag_modified(aggregate, "version")


def record_appended(appended: Appended) -> None:
    """Note what was just appended in the session's transaction, or in its innermost savepoint.

    What was appended without its instance, between events that the instance has flushed, belongs among these: a rollback that makes
    the instance transient would leave a gap otherwise.
    """
    session, streams = appended.session, appended.streams
    transaction = innermost(session)
    ledger = ledger_of(session)
    written = ledger.written.setdefault(transaction, Written())
    written.last_event = streams[-1].events[-1].event_id
    log = appended.connection, appended.tables
    if written.first_events is None:
        written.first_events = {log: streams[0].events[0].event_id}
    else:
        written.first_events.setdefault(log, streams[0].events[0].event_id)
    if transaction.nested:
        written.streams.update(stream.identity_key for stream in streams if stream.identity_key is not None)
    if ledger.flushed:
        for stream in streams:
            instance = None if stream.identity_key is None else session.identity_map.get(stream.identity_key)
            if instance is not None and instance_state(instance) in ledger.flushed:
                _keep_flushed(ledger, transaction, instance_state(instance), stream)


def record_flushed(
    ledger: Ledger, transaction: SessionTransaction, state: InstanceState[Any], stream: StreamAppend, *, is_new: bool
) -> None:
    """Settle the events that were just written for an instance, and keep them if a rollback would make it transient."""
    if is_new or state in ledger.flushed:
        _keep_flushed(ledger, transaction, state, stream)
        if len(ledger.flushed) > ledger.sweep_at:
            ledger.flushed = {each: flushed for each, flushed in ledger.flushed.items() if each.obj() is not None}
            ledger.sweep_at = max(_FIRST_SWEEP, 2 * len(ledger.flushed))
    pending = books_of(stream.aggregate).pending
    del pending[: len(stream.applied)]  # what was applied while they were written stays
    if not pending and ledger.pending:
        ledger.pending.pop(state, None)


def last_event_written(session: Session) -> UUID | None:
    """Get the id of the last event that a transaction has flushed so far; None if it wrote none. It must be in no savepoint."""
    ledger = _find(session)
    written = None if ledger is None else ledger.written.get(innermost(session))
    return None if written is None else written.last_event


def first_event_written(session: Session, connection: Connection, tables: EventSourceTables) -> UUID | None:
    """Get the id of the first event that a transaction, with its open savepoints, has written to a log; None if it wrote none."""
    ledger = _find(session)
    first: UUID | None = None
    level = None if ledger is None or not ledger.written else innermost(session)
    while ledger is not None and level is not None:
        written = ledger.written.get(level)
        if written is not None and written.first_events is not None:
            first = written.first_events.get((connection, tables), first)
        level = level.parent
    return first


def _keep_flushed(ledger: Ledger, transaction: SessionTransaction, state: InstanceState[Any], stream: StreamAppend) -> None:
    ledger.flushed.setdefault(state, []).append(Flushed(transaction, stream.aggregate_id, stream.applied))
    if transaction.nested:
        written = ledger.written.setdefault(transaction, Written())
        written.new = WeakSet() if written.new is None else written.new
        written.new.add(state)


def settle(session: Session) -> UUID | None:
    """Settle what was written when a transaction is committed or a savepoint released.

    Returns:
        The id of the transaction's last event; None if it wrote none, and for a savepoint.
    """
    ledger: Ledger | None = session.__dict__.get(_LEDGER)
    if ledger is None:
        return None
    transaction = innermost(session)
    written = ledger.written.pop(transaction, None)
    if written is None:
        return None
    if not transaction.nested:
        return written.last_event
    outer = _boundary(transaction.parent)
    into = ledger.written.setdefault(outer, Written())
    into.last_event = written.last_event or into.last_event
    into.first_events = {**(written.first_events or {}), **(into.first_events or {})}
    if outer.nested:
        into.streams |= written.streams
        if written.new is not None:
            if into.new is None:
                into.new = WeakSet()
            into.new.update(written.new)  # not made again of all: a savepoint costs the same however many came before
            for state in written.new:
                for flushed in ledger.flushed.get(state, ()):
                    flushed.by = outer if flushed.by is transaction else flushed.by
    return None


def _boundary(transaction: SessionTransaction | None) -> SessionTransaction:
    while transaction is not None and transaction.parent is not None and not transaction.nested:
        transaction = transaction.parent
    if transaction is None:
        raise AssertionError("a savepoint lies in a transaction")
    return transaction


def joined(session: Session, instance: object) -> None:
    """Hold an aggregate that comes into the session with pending events."""
    if isinstance(instance, AggregateRoot) and books_of(instance).pending:
        keep(session, instance)


def became_transient(session: Session, state: InstanceState[Any]) -> None:
    """Give an instance its flushed events back, whether or not the flush had come so far as to make it persistent."""
    ledger = _find(session)
    if ledger is None:
        return
    flushed = ledger.flushed.pop(state, [])
    aggregate = state.obj()
    ledger.pending.pop(state, None)
    if flushed and isinstance(aggregate, AggregateRoot):
        events = [one for each in flushed for one in each.events] + books_of(aggregate).pending
        rewind(aggregate, flushed[0].aggregate_id, events)
        ledger.rewound.append((aggregate, flushed[0].aggregate_id, events))


def after_soft_rollback(session: Session, _previous: SessionTransaction) -> None:
    """Make the state of what was rewound, now that the rollback is done.

    What was expired since is rewound once more: a flush that fails in ``pending_to_persistent`` leaves it in the identity map.
    """
    ledger = _find(session)
    if ledger is not None:
        rewound, ledger.rewound = ledger.rewound, []
        for aggregate, aggregate_id, events in rewound:
            if "id" not in vars(aggregate):
                rewind(aggregate, aggregate_id, events)
            make_state_again(aggregate)


def after_rollback(session: Session) -> None:
    """Expire, when a savepoint is rolled back, what was read after events had been appended in it."""
    ledger = _find(session)
    savepoint = session.get_nested_transaction()
    if ledger is None:
        return
    ledger.is_flushing = False
    written = None if savepoint is None else ledger.written.pop(savepoint, None)
    if written is None:
        return
    for state in written.new or ():
        flushed = ledger.flushed.get(state)
        if flushed and flushed[0].by is not savepoint:  # else it becomes transient in a moment, and gets all of them back
            ledger.flushed[state] = [each for each in flushed if each.by is not savepoint]
    for key in written.streams:
        aggregate = session.identity_map.get(key)
        if aggregate is not None:
            session.expire(aggregate)
    if written.last_event is not None:
        for listener in _undone:
            listener(session)


def after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    """Forget what a transaction or savepoint has written, when it is over."""
    ledger: Ledger | None = session.__dict__.get(_LEDGER)
    if ledger is not None:
        ledger.written.pop(transaction, None)
        if transaction.parent is None:
            ledger.flushed.clear()
            ledger.sweep_at = _FIRST_SWEEP
