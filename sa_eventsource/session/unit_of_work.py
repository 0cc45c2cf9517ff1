"""Saving: a flush writes the events of all new and changed aggregates with one INSERT, or nothing.

The events go in after the application's own ``before_flush`` hooks have run and before the first row of another entity. Where
nobody else listens to flushes, that is the moment of our own hook, and aggregates need not go through SQLAlchemy's unit of work,
which has no table to write for them. Otherwise they do, so that every hook sees them as it sees any entity, and the events are
written when the unit of work has collected what it is about to write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.exc import FlushError

from sa_eventsource.aggregates import AggregateRoot, books_of, definition_of, identity_of
from sa_eventsource.exceptions import DuplicateAggregateError, EmptyAggregateError, ReadOnlyAggregateError
from sa_eventsource.mapping import id_as_text
from sa_eventsource.session import ledger, written_events
from sa_eventsource.session.held_flushes import NOTHING_HELD, hold
from sa_eventsource.session.protected_rows import (
    before_post_update,
    protected_kinds,
    refuse_changed,
    refuse_in_flush,
    refuse_protected,
)
from sa_eventsource.session.sqlalchemy_internals import (
    PendingFlush,
    call_row_hooks,
    ends_transaction,
    expire_read_only,
    fail_flush,
    has_row_hooks,
    has_work,
    innermost,
    is_all_of_commit,
    is_heard_elsewhere,
    is_orphan,
    new_states,
    register_findable,
    register_persistent,
    unflushed,
    will_commit,
)
from sa_eventsource.session.tenants_of_instances import check_session, note_written
from sa_eventsource.store import (
    HELD,
    AppendRefusedError,
    LogAppend,
    StreamAppend,
    connection_for,
    in_context,
    insert_events,
    raise_explained,
    tell_listeners,
    written_earlier,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from sqlalchemy import Connection
    from sqlalchemy.orm import InstanceState, Session, UOWTransaction

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.store import Appended, HeldStatements

    Registering: TypeAlias = Callable[[Session, set[InstanceState[Any]]], Callable[[], None] | None]


def before_flush(session: Session, context: UOWTransaction, instances: Sequence[Any] | None) -> None:
    """Write the events of new and changed aggregates, now or when the unit of work has collected its own."""
    if HELD in session.__dict__:
        check_session(session)
    aggregates = _checked(session)
    if instances is not None or is_heard_elsewhere(session) or _with_row_hooks(aggregates):
        _follow(PendingFlush(context))
    else:
        if aggregates:
            _write(session, aggregates, register=register_persistent, with_row_hooks=False)
            ledger.end_flush(session)  # SQLAlchemy may find nothing to do yet, and return silently
        if has_work(session):  # of others, whose mappers' hooks may apply events; or a handler of a read model has applied more
            _follow(PendingFlush(context))


def _follow(flush: PendingFlush) -> None:
    flush.before_rows(_write_aggregates_of)
    flush.before_post_updates(before_post_update)


def _checked(session: Session) -> list[AggregateRoot[Any]]:
    """Refuse what a session must not write, and list its new and changed aggregates."""
    aggregates: list[AggregateRoot[Any]] = []
    new, dirty, deleted = unflushed(session)
    kinds = protected_kinds()
    for instance in deleted:
        refuse_protected(session, instance, "deleting")
    for instance in new:
        if isinstance(instance, AggregateRoot):
            aggregates.append(instance)
        elif isinstance(instance, kinds):
            refuse_protected(session, instance, "adding")
    for instance in dirty:
        if isinstance(instance, AggregateRoot):
            if is_orphan(instance_state(instance)):
                refuse_protected(session, instance, "deleting")
            aggregates.append(instance)
        elif isinstance(instance, kinds):
            refuse_changed(session, instance)
    return aggregates


def _write_aggregates_of(flush: PendingFlush) -> bool:
    ledger.begin_flush(flush.session)
    aggregates: list[AggregateRoot[Any]] = []
    kinds = protected_kinds()
    for state, is_deleted in flush.states():
        instance = state.obj()
        if isinstance(instance, AggregateRoot) and not is_deleted:
            aggregates.append(instance)
            flush.leave_out(state)
        elif isinstance(instance, kinds):
            refuse_in_flush(flush.session, state, is_deleted=is_deleted)
    if aggregates:
        flush.note_what_is_there()
        _write(flush.session, aggregates, register=register_findable, with_row_hooks=_with_row_hooks(aggregates))
        flush.take_in_what_came_up(AggregateRoot)
    return bool(aggregates)


_ROUNDS = 100
"""As often as SQLAlchemy flushes within one commit."""


def _write(session: Session, aggregates: Sequence[AggregateRoot[Any]], register: Registering, *, with_row_hooks: bool) -> None:
    """Write the events of aggregates, and of those that handlers of read models add meanwhile."""
    known = set(new_states(session))
    for _ in range(_ROUNDS):
        _write_once(session, aggregates, register, with_row_hooks=with_row_hooks)
        new = new_states(session)
        added = [state for state in new if state not in known] if new else ()
        if not added:
            return
        known.update(added)
        aggregates = [each for each in (state.obj() for state in added) if isinstance(each, AggregateRoot)]
        if not aggregates:
            return
        with_row_hooks = _with_row_hooks(aggregates)
    raise FlushError(
        f"{_ROUNDS} times in one flush, handlers of read models have added a further aggregate; the last: {aggregates!r}"
    )


def _write_once(session: Session, aggregates: Sequence[AggregateRoot[Any]], register: Registering, *, with_row_hooks: bool) -> None:
    """Write the events, then what follows from them.

    A handler of a read model that asks the session for an aggregate gets the instance that is being written, not another one.
    """
    states = [instance_state(each) for each in aggregates]
    heard = [(state, state.key is None) for state in states] if with_row_hooks else []
    owed = ledger.ledger_of(session)
    is_all = is_all_of_commit(session, len(states))
    logs: dict[tuple[Connection, EventSourceTables], list[StreamAppend]] = {}
    written: list[tuple[InstanceState[Any], StreamAppend, bool]] = []
    appends: list[LogAppend] = []
    appended: list[Appended] = []
    held: HeldStatements | None = None
    try:
        ledger.begin_flush(session)
        _call_row_hooks(session, heard, "before_insert", "before_update")
        for state, aggregate in zip(states, aggregates, strict=True):  # only now: what the hooks have applied is written, too
            connection = connection_for(session, state)  # first: what is refused below rolls its transaction back
            definition = definition_of(type(aggregate))
            stream = _stream(session, definition, aggregate, state)
            if stream is not None:
                logs.setdefault((connection, definition.tables), []).append(stream)
                written.append((state, stream, state.key is None))
        appends = _appends(session, logs, states, is_all=is_all)
        with NOTHING_HELD if heard else hold(session, appends, written) as held:
            for append in appends:
                appended.append(insert_events(session, append))  # noqa: PERF401 - how far it comes tells which is refused
            expire_read_only(states)
            forget = register(session, set(states))
            try:
                for each in appended:
                    tell_listeners(each)
            finally:
                if forget is not None:
                    forget()
            _call_row_hooks(session, heard, "after_insert", "after_update")
            if held is not None:
                held.settle(commits=forget is None and ends_transaction(session, appends[0].connection))
    except BaseException as error:
        _undo(session, error, appends, len(appended), held)
        raise
    transaction = innermost(session)
    for state, stream, is_new in written:
        written_events.record_flushed(owed, transaction, state, stream, is_new=is_new)


def _call_row_hooks(session: Session, heard: Sequence[tuple[InstanceState[Any], bool]], of_new: str, of_changed: str) -> None:
    for state, is_new in heard:
        call_row_hooks(connection_for(session, state), state, of_new if is_new else of_changed)


def _undo(session: Session, error: BaseException, appends: Sequence[LogAppend], appended: int, held: HeldStatements | None) -> None:
    """Roll back, and raise what explains the error; a part of that is asked before the rollback, a part after it.

    Args:
        session: The session.
        error: The error.
        appends: All that was to be appended.
        appended: How many of them were appended, or are held.
        held: What was held.
    """
    earlier: Sequence[Any] = ()
    refused = appends[appended] if appended < len(appends) else None
    try:
        if held is not None and held.failed is not None:  # the transaction has failed, and had written no event before
            refused = held.failed.append
        elif isinstance(error, AppendRefusedError) and refused is not None:
            first = written_events.first_event_written(session, refused.connection, refused.tables)
            earlier = written_earlier(refused, error, first)
    finally:
        try:
            fail_flush(session)
        finally:
            ledger.end_flush(session)  # nothing is rolled back where the transaction is prepared already
    if isinstance(error, AppendRefusedError | DBAPIError) and not (held is not None and held.failed_to_commit):
        raise_explained(error, session, appends, refused, earlier=earlier)


def _appends(
    session: Session,
    logs: dict[tuple[Connection, EventSourceTables], list[StreamAppend]],
    states: Sequence[InstanceState[Any]],
    *,
    is_all: bool,
) -> list[LogAppend]:
    """Sort by log and database: two transactions that write the same ones wait for each other instead of deadlocking.

    Args:
        session: The session, whose transactions have begun.
        logs: The streams by log.
        states: The instances that have them.
        is_all: Whether they are all that the commit has to write.
    """
    if HELD in session.__dict__:
        note_written(session, states)
    appends = [LogAppend(*log, streams) for log, streams in logs.items()]
    if is_all and len(appends) == 1:
        appends[0].is_all_of_commit = will_commit(session, len(states))
    if len(appends) > 1:
        appends.sort(key=lambda each: (each.tables.events.fullname, each.connection.engine.url.render_as_string()))
    return appends


def _with_row_hooks(aggregates: Sequence[AggregateRoot[Any]]) -> bool:
    if len(aggregates) == 1:
        return has_row_hooks(instance_state(aggregates[0]).mapper)
    return any(map(has_row_hooks, {instance_state(each).mapper for each in aggregates}))


def _stream(
    session: Session, definition: AggregateDefinition, aggregate: AggregateRoot[Any], state: InstanceState[Any]
) -> StreamAppend | None:
    pending = tuple(books_of(aggregate).pending)
    aggregate_id = id_as_text(identity_of(aggregate), definition.id_type, definition.aggregate_type)
    if not pending:
        if books_of(aggregate).is_read_only:
            raise ReadOnlyAggregateError(definition.aggregate_type, aggregate_id, aggregate.version)
        if state.key is None:
            raise EmptyAggregateError(definition.aggregate_type, aggregate_id)
        return None
    if state.key is None and pending[0].version > 1:  # else it is the INSERT that finds the other's events
        key = state.mapper.identity_key_from_primary_key((identity_of(aggregate),), identity_token=state.identity_token)
        if key in session.identity_map:
            raise DuplicateAggregateError(definition.aggregate_type, aggregate_id)
    events = in_context(session, pending)
    return StreamAppend(definition.aggregate_type, aggregate_id, pending[0].version - 1, events, pending, aggregate)
