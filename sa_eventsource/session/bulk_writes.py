"""Refusing bulk writes through a session: there is no event before them, so this uses names of SQLAlchemy that are not public.

It adds to :mod:`sa_eventsource.session.sqlalchemy_internals`, for mappers that have a table, and for statements within statements.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, ref

from sqlalchemy import BinaryExpression, BindParameter, ClauseElement, ColumnClause, FromClause, Select, Table
from sqlalchemy.orm import Mapper, object_session
from sqlalchemy.sql.base import ExecutableOption
from sqlalchemy.sql.dml import UpdateBase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import SessionTransaction

_flushing: ContextVar[ref[SessionTransaction] | None] = ContextVar("sa_eventsource.flushing", default=None)


def refuse_bulk_writes(mapper: Mapper[Any], error: Callable[[], Exception]) -> None:
    """Have ``bulk_save_objects`` and the like raise what *error* makes for a mapper, whose tables they look up and would find none.

    Flushes do not look: aggregates are mapped without batches, and none is left to them to write. The columns of the primary
    key, which SQLAlchemy would seek among those of the mapper's tables, are set beforehand; ``refresh`` of single attributes needs
    them as well.
    """
    mapper.__dict__["_sorted_tables"] = _Refusing(error)
    mapper.__dict__["_all_pk_cols"] = set(mapper.primary_key)


class _Refusing(dict[Any, Any]):
    def __init__(self, error: Callable[[], Exception]) -> None:
        super().__init__()
        self._error = error

    def items(self) -> Any:
        raise self._error()


def note_flush(_mapper: Mapper[Any], _connection: object, instance: object) -> None:
    """Note that a flush writes rows: a listener to ``before_insert`` and ``before_update``, which bulk operations do not fire."""
    session: Any = object_session(instance)
    # The flush's own transaction within that of the session: it ends with the flush, and what is noted here with it.
    _flushing.set(ref(session._transaction))  # noqa: SLF001


def _is_flushing() -> bool:
    noted = _flushing.get()
    transaction = None if noted is None else noted()
    return transaction is not None and transaction.is_active


def guard_bulk_writes(mapper: Mapper[Any], check: Callable[[], None]) -> None:
    """Have *check* called, which may raise, before ``bulk_save_objects`` and the like write rows of a mapper.

    They look up the mapper's tables first. So does a flush, which is let through where :func:`note_flush` listens. Of a mapper
    without a table they look up the primary key before that, and would not find it among the columns of its tables.
    """
    mapper.__dict__["_sorted_tables"] = _CheckedTables(mapper, check)
    if not isinstance(mapper.persist_selectable, Table):
        mapper.__dict__["_all_pk_cols"] = set(mapper.primary_key)


class _CheckedTables(dict[Any, Any]):
    """A mapper's tables in the order they are written; worked out when asked for, when all of them are known."""

    def __init__(self, mapper: Mapper[Any], check: Callable[[], None]) -> None:
        super().__init__()
        self._mapper = ref(mapper)
        self._check = check

    def items(self) -> Any:
        if not _is_flushing():
            self._check()
        self._fill()
        return super().items()

    def keys(self) -> Any:
        self._fill()
        return super().keys()

    def __iter__(self) -> Iterator[Any]:
        self._fill()
        return super().__iter__()

    def _fill(self) -> None:
        mapper = self._mapper()
        if not len(self) and mapper is not None:
            descriptor: Any = Mapper._sorted_tables  # noqa: SLF001 - what works them out
            self.update(descriptor.fget(mapper))


_mapped: WeakSet[FromClause] = WeakSet()


def has_no_writes(selectable: FromClause) -> None:
    """Note the selectable of a mapper, which :func:`writes_within` need not look into."""
    _mapped.add(selectable)


def writes_within(statement: Any) -> list[UpdateBase]:
    """Find the INSERT, UPDATE and DELETE statements that a statement is or has within it, in common table expressions above all.

    Every statement of a session comes by here, so that it takes the ways that are quick for an ordinary SELECT.
    """
    found: list[UpdateBase] = []
    stack: list[Any] = [getattr(statement, "_resolved", statement)]  # what a lambda_stmt() stands for
    seen: set[int] = set()
    while stack:
        element = stack.pop()
        if isinstance(element, ColumnClause):
            element = element.table
        if element is None or isinstance(element, _LEAVES) or id(element) in seen:
            continue
        seen.add(id(element))
        if isinstance(element, Select):
            stack += _parts_of_select(element)
        elif isinstance(element, BinaryExpression):
            stack += (element.left, element.right)
        elif not (isinstance(element, FromClause) and element in _mapped):
            if isinstance(element, UpdateBase):
                found.append(element)
            stack += element.get_children()
    return found


_LEAVES = (Table, BindParameter)


def _parts_of_select(statement: Any) -> list[Any]:
    """List the elements that a SELECT was made of: get_children() would work out what it selects from."""
    parts: list[Any] = []
    for name, value in statement.__dict__.items():
        if isinstance(value, tuple | list):
            _flatten(value, parts)
        elif isinstance(value, ClauseElement) and name != "_is_clone_of":
            parts.append(value)
    return parts


def _flatten(values: Any, parts: list[Any]) -> None:
    for value in values:
        if isinstance(value, tuple | list):
            _flatten(value, parts)
        elif isinstance(value, ClauseElement):
            parts.append(value)
        elif isinstance(value, ExecutableOption):
            _flatten(_criteria_of(value), parts)


def _criteria_of(option: Any) -> Iterator[Any]:
    """List the conditions that ``with_loader_criteria`` adds to a statement, or ``and_()`` of a relationship that is loaded."""
    yield getattr(option, "where_criteria", None)
    for element in getattr(option, "context", ()):
        yield getattr(element, "_extra_criteria", ())
