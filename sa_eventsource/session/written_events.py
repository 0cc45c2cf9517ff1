"""What the transactions and savepoints of a session have written, and what follows when one ends.

A rollback that makes an instance transient gives it its events back; one of a savepoint has what was read since read again.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy.orm.attributes import instance_state

from sa_eventsource.aggregates import (
    AggregateRoot,
    base_version,
    books_of,
    drop_half_changed_state,
    identity_of,
    make_state_again,
    rewind,
)
from sa_eventsource.session.ledger import FIRST_SWEEP, Flushed, Written, end_flush, find_ledger, is_in_flush, ledger_of
from sa_eventsource.session.sqlalchemy_internals import innermost
from sa_eventsource.session.tenants_of_instances import forget_tenant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.orm import InstanceState, Session, SessionTransaction

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.session.ledger import Ledger
    from sa_eventsource.store import Appended, StreamAppend

_undone: list[Callable[[Session], None]] = []


def on_savepoint_undone(listener: Callable[[Session], None]) -> Callable[[Session], None]:
    """Have *listener* called when a savepoint is rolled back in which events were appended."""
    _undone.append(listener)
    return listener


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
            ledger.sweep_at = max(FIRST_SWEEP, 2 * len(ledger.flushed))
    if transaction.nested:
        key = state.key or state.mapper.identity_key_from_primary_key((identity_of(stream.aggregate),))
        ledger.written[transaction].streams.add(key)
    pending = books_of(stream.aggregate).pending
    del pending[: len(stream.applied)]  # what was applied while they were written stays
    if not pending and ledger.pending:
        ledger.pending.pop(state, None)


def last_event_written(session: Session) -> UUID | None:
    """Get the id of the last event that a transaction has flushed so far; None if it wrote none. It must be in no savepoint."""
    ledger = find_ledger(session)
    written = None if ledger is None else ledger.written.get(innermost(session))
    return None if written is None else written.last_event


def first_event_written(session: Session, connection: Connection, tables: EventSourceTables) -> UUID | None:
    """Get the id of the first event that a transaction, with its open savepoints, has written to a log; None if it wrote none."""
    ledger = find_ledger(session)
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
    ledger = find_ledger(session)
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
    # Nothing is made again of all, nor gone through: a savepoint costs the same however many came before.
    if outer.nested:
        into.streams |= written.streams
        if written.new is not None:
            into.new = WeakSet() if into.new is None else into.new
            into.new.update(written.new)
    for state in written.new or ():
        for flushed in _flushed_by(transaction, ledger.flushed.get(state, ())):
            flushed.by = outer  # in a transaction, too, which would hold the savepoint otherwise
    return None


def _flushed_by(savepoint: SessionTransaction, flushed: Sequence[Flushed]) -> Iterator[Flushed]:
    """Find what a savepoint wrote that is about to end: the last, since those around it have written nothing since it began."""
    return takewhile(lambda each: each.by is savepoint, reversed(flushed))


def _boundary(transaction: SessionTransaction | None) -> SessionTransaction:
    while transaction is not None and transaction.parent is not None and not transaction.nested:
        transaction = transaction.parent
    if transaction is None:
        raise AssertionError("a savepoint is in a transaction")
    return transaction


def became_transient(session: Session, state: InstanceState[Any]) -> None:
    """Give an instance its flushed events back, whether or not the flush had come so far as to make it persistent."""
    ledger = find_ledger(session)
    if ledger is None:
        return
    flushed = ledger.flushed.pop(state, [])
    aggregate = state.obj()
    ledger.pending.pop(state, None)
    if flushed and isinstance(aggregate, AggregateRoot):
        events = [one for each in flushed for one in each.events] + books_of(aggregate).pending
        rewind(aggregate, flushed[0].aggregate_id, events)
        ledger.rewound.append((aggregate, flushed[0].aggregate_id, events))
    if "info" in state.__dict__ and isinstance(aggregate, AggregateRoot) and base_version(aggregate) == 0:
        forget_tenant(state)


def after_soft_rollback(session: Session, _previous: SessionTransaction) -> None:
    """Make the state of what was rewound, now that the rollback is done.

    What was expired since is rewound once more: a flush that fails in ``pending_to_persistent`` leaves it in the identity map.
    """
    ledger = find_ledger(session)
    if ledger is not None:
        rewound, ledger.rewound = ledger.rewound, []
        for aggregate, aggregate_id, events in rewound:
            if "id" not in vars(aggregate):
                rewind(aggregate, aggregate_id, events)
            make_state_again(aggregate)


def after_rollback(session: Session) -> None:
    """Expire, when a savepoint is rolled back, what was read after events had been appended in it."""
    ledger = find_ledger(session)
    savepoint = session.get_nested_transaction()
    if ledger is None:
        return
    if savepoint is not None and is_in_flush(session):
        for state, version in ledger.unflagged.pop(savepoint, {}).items():
            _take_back(ledger, state, version)
    else:
        ledger.allowed.clear()
        if ledger.is_flushing:
            end_flush(session)  # what was applied meanwhile is found by the rollback, as it is flagged
    written = None if savepoint is None else ledger.written.pop(savepoint, None)
    if savepoint is not None and written is not None:
        _expire_undone(session, ledger, savepoint, written, makes_transient=True)


def _take_back(ledger: Ledger, state: InstanceState[Any], version: int) -> None:
    """Drop the pending events of an instance after a version; its state is made again when it is read."""
    aggregate = ledger.pending.get(state)
    if aggregate is not None:
        pending = books_of(aggregate).pending
        pending[:] = [each for each in pending if each.version <= version]
        drop_half_changed_state(aggregate)
        vars(aggregate)["version"] = version
        if not pending:
            del ledger.pending[state]


def _expire_undone(
    session: Session, ledger: Ledger, savepoint: SessionTransaction, written: Written, *, makes_transient: bool
) -> None:
    """Expire what has been written in a savepoint that is undone.

    Args:
        session: The session.
        ledger: Its ledger.
        savepoint: The savepoint.
        written: What was written in it.
        makes_transient: Whether SQLAlchemy makes new instances transient.
    """
    made_transient: set[InstanceState[Any]] = set()  # in a moment, and with all of their events
    for state in written.new or ():
        flushed = ledger.flushed.get(state)
        if flushed and makes_transient and flushed[0].by is savepoint:
            made_transient.add(state)
        elif flushed:
            del flushed[len(flushed) - sum(1 for _ in _flushed_by(savepoint, flushed)) :]
    for key in written.streams:
        aggregate = session.identity_map.get(key)
        if aggregate is not None and instance_state(aggregate) not in made_transient:
            session.expire(aggregate)
    if written.last_event is not None:
        for listener in _undone:
            listener(session)


def after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    """Forget what a transaction or savepoint has written, when it is over.

    Where a savepoint around it is rolled back, it is closed and not rolled back by itself, and leaves what it has written as it is.
    """
    ledger = find_ledger(session)
    if ledger is not None:
        written = ledger.written.pop(transaction, None)
        if written is not None and transaction.nested:
            _expire_undone(session, ledger, transaction, written, makes_transient=False)
        if transaction.parent is None:
            ledger.flushed.clear()
            ledger.sweep_at = FIRST_SWEEP
