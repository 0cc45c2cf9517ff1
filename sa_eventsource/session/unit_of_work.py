"""Saving: a flush writes the events of all new and changed aggregates with one INSERT, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from sa_eventsource.aggregates import AggregateRoot, definition_of, pending_of, rewind, set_pending
from sa_eventsource.exceptions import EmptyAggregateError, ImmutableEventError
from sa_eventsource.mapping import EventRecord
from sa_eventsource.session.sqlalchemy_internals import flush_transaction, register_persistent
from sa_eventsource.store import AppendRefusedError, StreamAppend, append, raise_explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.orm import SessionTransaction, UOWTransaction

    from sa_eventsource.mapping import EventSourceTables


def listen() -> None:
    """Put the hooks on every session, present and future."""
    event.listen(Session, "before_flush", _before_flush)
    event.listen(Session, "persistent_to_transient", _became_transient)
    event.listen(Session, "after_soft_rollback", _after_soft_rollback)
    event.listen(Session, "after_transaction_end", _after_transaction_end)


def _before_flush(session: Session, _context: UOWTransaction, instances: Sequence[Any] | None) -> None:
    for deleted in session.deleted:
        _refuse_protected(session, deleted, "deleting")
    aggregates: list[AggregateRoot[Any]] = []
    for instance in session.new:
        if isinstance(instance, AggregateRoot):
            aggregates.append(instance)
        else:
            _refuse_protected(session, instance, "adding")
    for instance in session.dirty:
        if isinstance(instance, AggregateRoot):
            aggregates.append(instance)
        elif isinstance(instance, _protected) and session.is_modified(instance):
            _refuse_protected(session, instance, "changing")
    if instances is not None and aggregates:
        chosen = {id(instance) for instance in instances}
        aggregates = [aggregate for aggregate in aggregates if id(aggregate) in chosen]
    if aggregates:
        _write(session, aggregates)


def protect(kind: type[Any], refuse: Callable[[Session, Any, str], None]) -> None:
    """Have *refuse* called before a flush writes instances of a class, with what is done: adding, changing or deleting them.

    It raises unless the flush may go on.
    """
    global _protected  # noqa: PLW0603 - grows while modules are imported
    _refusals[kind] = refuse
    _protected = tuple(_refusals)


def _refuse_history(_session: Session, instance: Any, deed: str) -> None:
    advice = (
        "Append events with apply_event() on an aggregate." if deed == "adding" else "Append a new event that corrects it instead."
    )
    raise ImmutableEventError(f"{deed} {instance!r}", advice)


def _refuse_deletion(_session: Session, instance: Any, deed: str) -> None:
    advice = "Apply an event that says it is closed or cancelled; session.expunge() undoes the delete()."
    raise ImmutableEventError(f"{deed} {instance!r}", advice)


_refusals: dict[type[Any], Callable[[Session, Any, str], None]] = {AggregateRoot: _refuse_deletion, EventRecord: _refuse_history}
_protected: tuple[type[Any], ...] = tuple(_refusals)


def _refuse_protected(session: Session, instance: object, deed: str) -> None:
    if isinstance(instance, _protected):
        for kind, refuse in _refusals.items():
            if isinstance(instance, kind):
                refuse(session, instance, deed)


def _write(session: Session, aggregates: Sequence[AggregateRoot[Any]]) -> None:
    groups: dict[tuple[Connection, EventSourceTables], list[StreamAppend]] = {}
    written: list[StreamAppend] = []
    try:
        with flush_transaction(session):
            for aggregate in aggregates:
                stream = _stream(aggregate)
                if stream is None:
                    continue
                definition = definition_of(type(aggregate))
                connection = session.connection(bind_arguments={"mapper": instance_state(aggregate).mapper})
                groups.setdefault((connection, definition.tables), []).append(stream)
                written.append(stream)
            for (connection, tables), streams in groups.items():
                append(session, connection, tables, streams)
            register_persistent(session, {instance_state(aggregate) for aggregate in aggregates})
    except (AppendRefusedError, DBAPIError) as error:
        raise_explained(error, [(connection, tables, streams) for (connection, tables), streams in groups.items()])
    transaction = session.get_nested_transaction() or session.get_transaction()
    log = _flushed.setdefault(session, [])
    for stream in written:
        log.append((transaction, stream))
        set_pending(stream.aggregate, [])


def _stream(aggregate: AggregateRoot[Any]) -> StreamAppend | None:
    definition = definition_of(type(aggregate))
    pending = pending_of(aggregate)
    aggregate_id = definition.text_id(vars(aggregate)["id"])
    if not pending:
        if instance_state(aggregate).key is None:
            raise EmptyAggregateError(definition.aggregate_type, aggregate_id)
        return None
    return StreamAppend(definition.aggregate_type, aggregate_id, pending[0].version - 1, pending, aggregate)


# Events that a session has flushed but not committed, with the transaction or savepoint they were flushed in: a new aggregate that
# a rollback makes transient again gets them back, as any entity keeps its attributes, and can be added to a session once more.
_flushed: WeakKeyDictionary[Session, list[tuple[SessionTransaction | None, StreamAppend]]] = WeakKeyDictionary()


def _became_transient(session: Session, instance: object) -> None:
    if isinstance(instance, AggregateRoot):
        streams = [stream for _, stream in _flushed.get(session, ()) if stream.aggregate is instance]
        if streams:
            unflushed = pending_of(instance)
            rewind(instance, streams[0].aggregate_id, [each for stream in streams for each in stream.events] + list(unflushed))


def _after_soft_rollback(session: Session, previous: SessionTransaction) -> None:
    log = _flushed.get(session)
    if log:
        log[:] = [entry for entry in log if not any(each is previous for each in _with_parents(entry[0]))]


def _after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        _flushed.pop(session, None)


def _with_parents(transaction: SessionTransaction | None) -> Iterable[SessionTransaction]:
    while transaction is not None:
        yield transaction
        transaction = transaction.parent
