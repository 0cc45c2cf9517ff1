"""What must not bypass the unit of work: bulk and Core writes to aggregates and events, FOR UPDATE on streams.

Within reach is what goes through a session: its statements, with all that is nested in them, and its bulk operations. What is
executed as text, or on ``session.connection()``, is not; there, the triggers on events keep what is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, event, inspect

from sa_eventsource.aggregates import AggregateRoot
from sa_eventsource.exceptions import UnitOfWorkBypassError
from sa_eventsource.mapping import EventRecord, is_events_table, is_shared_by_tenants
from sa_eventsource.session.bulk_writes import guard_bulk_writes, has_no_writes, note_flush, refuse_bulk_writes, writes_within
from sa_eventsource.session.protected_rows import guard_rows, protect, refuse_history
from sa_eventsource.session.sqlalchemy_internals import locked_classes
from sa_eventsource.session.tenants_of_instances import note_rows
from sa_eventsource.store import OPTION_OF_PERSONAL_DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Mapper, ORMExecuteState, Session
    from sqlalchemy.sql.dml import UpdateBase


def protect_from_statements(
    kind: type[Any],
    refuse: Callable[[Session, type[Any], str], None],
    *,
    class_of_table: Callable[[Table], type[Any] | None],
    refuse_bulk: Callable[[type[Any]], None],
) -> None:
    """Have statements and bulk operations of a session refused that would write rows of a mapped class.

    Args:
        kind: The class, or a base of the classes.
        refuse: Called before an INSERT, UPDATE or DELETE, with the session, the class and the statement's name; it raises unless
            the statement may go on.
        class_of_table: Finds the class whose rows are in a table, for statements that name no class; None if it is another table.
        refuse_bulk: Called before a bulk operation, with the class; it raises unless the operation may go on.
    """
    _refusals[kind] = refuse
    _tables.append(class_of_table)
    _bulk_refusals[kind] = refuse_bulk
    for name in ("before_insert", "before_update"):
        event.listen(kind, name, note_flush, propagate=True)


def _refuse_aggregate(_session: Session, aggregate_class: type[Any], deed: str) -> None:
    raise UnitOfWorkBypassError(f"{deed} of {aggregate_class.__name__}")


def _refuse_events(_session: Session, _class: type[Any], deed: str) -> None:
    raise UnitOfWorkBypassError(f"{deed} of events through the session")


def _refuse_bulk_events(_class: type[Any]) -> None:
    raise UnitOfWorkBypassError("a bulk write of events")


def _record_of_table(table: Table) -> type[Any] | None:
    return EventRecord if is_events_table(table) else None


_refusals: dict[type[Any], Callable[[Session, type[Any], str], None]] = {
    AggregateRoot: _refuse_aggregate,
    EventRecord: _refuse_events,
}
_tables: list[Callable[[Table], type[Any] | None]] = [_record_of_table]
_bulk_refusals: dict[type[Any], Callable[[type[Any]], None]] = {EventRecord: _refuse_bulk_events}


def check_statement(state: ORMExecuteState) -> None:
    """Refuse a statement that would write aggregates or events, or lock rows that aggregates do not have.

    Raises:
        TypeError: It has the option that masks personal data; a session's objects would have it in clear for other statements.
        UnitOfWorkBypassError: It would do so.
    """
    if OPTION_OF_PERSONAL_DATA in state.execution_options:
        raise TypeError(
            f"{OPTION_OF_PERSONAL_DATA} is no option of a statement: a session reads all in clear, or all masked. Give it to the "
            f'engine: Session(engine.execution_options({OPTION_OF_PERSONAL_DATA}="masked"))'
        )
    if not (state.is_column_load or state.is_relationship_load):  # those, SQLAlchemy has made
        for write in writes_within(state.statement):
            _check_write(state.session, write)
    if state.is_select and any(issubclass(each, AggregateRoot) for each in locked_classes(state)):
        raise UnitOfWorkBypassError("FOR UPDATE on aggregates, which have no rows of their own to lock,", advice=_LOCKING)


def _check_write(session: Session, write: UpdateBase) -> None:
    written = _written_class(write)
    if written is not None:
        for kind, refuse in _refusals.items():
            if issubclass(written, kind):
                refuse(session, written, "INSERT" if write.is_insert else "UPDATE" if write.is_update else "DELETE")


def _written_class(write: UpdateBase) -> type[Any] | None:
    """Find the mapped class that a statement names, or whose rows are in the table that it names."""
    entity = write.entity_description.get("entity")
    if entity is not None:
        mapper: Mapper[Any] = inspect(entity).mapper
        return guarded_class(mapper)
    return class_of_table(write.table) if isinstance(write.table, Table) else None


def class_of_table(table: Table) -> type[Any] | None:
    """Find the guarded class whose rows are in a table; None where anyone may write them."""
    return next((each for each in (find(table) for find in _tables) if each is not None), None)


def guarded_class(mapper: Mapper[Any]) -> type[Any]:
    """Get what stands for a mapper's class where writes are refused: ``EventRecord`` for any class that is mapped to a log."""
    return EventRecord if is_events_table(mapper.local_table) else mapper.class_


_LOCKING = (
    "Call lock_aggregate(session, Order, id) before loading it; without a lock, a conflict is found at flush. To lock the rows of "
    "another table in a join, name it: with_for_update(of=Invoice)."
)


def guard_mapper(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Refuse bulk operations, and rows that a flush must not write, of a class that has just been mapped, if it is guarded."""
    # At once: bulk operations do not wait until mappers are configured.
    if not isinstance(mapper.persist_selectable, Table):
        has_no_writes(mapper.persist_selectable)
    if issubclass(class_, AggregateRoot):
        refuse_bulk_writes(mapper, lambda: UnitOfWorkBypassError(f"a bulk write of {class_.__name__}"))
    guarded = guarded_class(mapper)
    if guarded is EventRecord and not issubclass(class_, EventRecord):
        protect(class_, refuse_history)
    if guarded is EventRecord and isinstance(mapper.local_table, Table) and is_shared_by_tenants(mapper.local_table):
        note_rows(class_)
    guard_rows(mapper)
    for kind, refuse in _bulk_refusals.items():
        if issubclass(guarded, kind):
            guard_bulk_writes(mapper, lambda refuse=refuse: refuse(class_))  # type: ignore[misc]
