"""What must not pass by the unit of work: bulk and Core writes to aggregates and events, merging, FOR UPDATE on streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import Mapper, Session, object_session
from sqlalchemy.sql.dml import UpdateBase

from sa_eventsource.aggregates import AggregateRoot
from sa_eventsource.exceptions import UnitOfWorkBypassError
from sa_eventsource.mapping import is_events_table
from sa_eventsource.session.sqlalchemy_internals import locked_classes, refuse_bulk_writes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import ORMExecuteState


def listen() -> None:
    """Put the hooks on every session and every aggregate class, present and future."""
    event.listen(Session, "do_orm_execute", _check_statement)
    event.listen(Mapper, "mapper_configured", _guard_mapper)


def protect_from_statements(kind: type[Any], refuse: Callable[[Session, type[Any], str], None]) -> None:
    """Have *refuse* called before a session executes an INSERT, UPDATE or DELETE of a mapped class that is a subclass of *kind*.

    It raises unless the statement may go on.
    """
    _refusals[kind] = refuse


_refusals: dict[type[Any], Callable[[Session, type[Any], str], None]] = {}


def _check_statement(state: ORMExecuteState) -> None:
    statement = state.statement
    if isinstance(statement, UpdateBase):
        if is_events_table(statement.table):
            raise UnitOfWorkBypassError(f"a {type(statement).__name__.upper()} of events through the session")
        mapper = state.bind_mapper
        for kind, refuse in _refusals.items():
            if mapper is not None and issubclass(mapper.class_, kind):
                refuse(state.session, mapper.class_, type(statement).__name__.upper())
    elif state.is_select and any(issubclass(each, AggregateRoot) for each in locked_classes(state)):
        raise UnitOfWorkBypassError("FOR UPDATE on aggregates, which have no rows of their own to lock,", advice=_LOCKING)


_LOCKING = (
    "Call lock_aggregate(session, Order, id) before loading it; without a lock, a conflict is found at flush. To lock the rows of "
    "another table in a join, name it: with_for_update(of=Invoice)."
)
_MERGING = "Load the aggregate with session.get() and apply the events to it; session.add() reattaches a detached one."


def _guard_mapper(mapper: Mapper[Any], class_: type[Any]) -> None:
    if issubclass(class_, AggregateRoot):
        refuse_bulk_writes(mapper, UnitOfWorkBypassError(f"a bulk write of {class_.__name__}"))
        for key in ("id", "version"):
            event.listen(getattr(class_, key), "set", _refuse_merge)


def _refuse_merge(aggregate: AggregateRoot[Any], value: object, _old: object, _initiator: object) -> None:
    # Only session.merge() sets these attributes this way: an application's assignment ends in AggregateRoot.__setattr__.
    session = object_session(aggregate)
    if session is not None and aggregate in session.new:
        session.expunge(aggregate)
    raise UnitOfWorkBypassError(f"session.merge() of {type(aggregate).__name__} {value!r}", advice=_MERGING)
