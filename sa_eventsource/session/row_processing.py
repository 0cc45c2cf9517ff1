"""How an attribute is set from more than is in its row, or merged: SQLAlchemy's steps between a statement's rows and its instances.

A mapped attribute has a part in each of them, but none of its part is public API: this adds to
:mod:`sa_eventsource.session.sqlalchemy_internals`. What is here is the same in SQLAlchemy 2.0.40 to 2.1. See
docs/explanation/decisions/.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from sqlalchemy import CursorResult
from sqlalchemy.orm import ColumnProperty

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from sqlalchemy.orm import InstanceState, Mapper, QueryContext, Session

    MakeReader: TypeAlias = Callable[[QueryContext, Mapper[Any]], "RowsReader"]
    CheckMerge: TypeAlias = Callable[[Session, InstanceState[Any], InstanceState[Any], bool], None]


class RowsReader(Protocol):
    """Takes part in making instances of one class from the rows of one statement."""

    def expect(self, identities: Sequence[Any]) -> None:
        """Learn which instances are to come, of all rows that have been fetched and before the first of them is made.

        Args:
            identities: The primary keys' single values, in the order of the rows. There may be some twice, and some whose
                instance needs nothing.
        """

    def expect_none(self) -> None:
        """Learn that no row has come, or no further one."""

    def set_attribute(self, state: InstanceState[Any]) -> None:
        """Set the attribute of an instance, whose other columns are set, and whose listeners have not been called yet."""


def read_with_rows(mapper: Mapper[Any], key: str, reader: MakeReader, check_merge: CheckMerge) -> None:
    """Have an attribute of a class set by a reader of one's own, wherever SQLAlchemy would set it from a row.

    Args:
        mapper: The class's mapper, just constructed.
        key: Name of the attribute, which is that of a column.
        reader: Makes the reader for one statement.
        check_merge: Called before ``session.merge()`` copies the attribute from one instance to the session's, with the session,
            both of them, and whether the second was loaded; it raises unless that may be.
    """
    attribute = mapper._props[key]  # noqa: SLF001 - mapper.attrs would configure all mappers
    attribute.__class__ = _read_by(reader, check_merge)


@cache
def _read_by(reader: MakeReader, check_merge: CheckMerge) -> Any:
    """Get the class of attributes that a reader sets; they have no slot to keep it in."""
    given = {"reader": staticmethod(reader), "check_merge": staticmethod(check_merge)}
    return type("_ReadByReader", (_ReadWithRows,), {"__slots__": (), "inherit_cache": True, **given})


class _ReadWithRows(ColumnProperty[Any]):
    __slots__ = ()
    inherit_cache = True
    reader: ClassVar[Any]
    check_merge: ClassVar[Any]

    def merge(  # noqa: PLR0913, PLR0917 - SQLAlchemy's signature
        self,
        session: Any,
        source_state: Any,
        source_dict: Any,
        dest_state: Any,
        dest_dict: Any,
        load: Any,
        _recursive: Any,
        _resolve_conflict_map: Any,
    ) -> None:
        """Merge the attribute, where that may be."""
        self.check_merge(session, source_state, dest_state, load)
        super().merge(session, source_state, source_dict, dest_state, dest_dict, load, _recursive, _resolve_conflict_map)

    def setup(self, context: Any, query_entity: Any, path: Any, adapter: Any, **options: Any) -> None:
        """Select the column, and have :meth:`create_row_processor` called, which is left out for what is memoized here."""
        super().setup(context, query_entity, path, adapter, **options)
        options["memoized_populators"].pop(self, None)

    def create_row_processor(  # noqa: PLR0913, PLR0917 - SQLAlchemy's signature
        self,
        context: Any,
        query_entity: Any,
        path: Any,
        mapper: Any,
        result: Any,
        adapter: Any,
        populators: Any,
    ) -> None:
        """Set the attribute by a reader, which is told of the rows as soon as they are fetched."""
        super().create_row_processor(context, query_entity, path, mapper, result, adapter, populators)
        reader: RowsReader = self.reader(context, mapper)
        populators["new"].append((self.key, lambda state, _values, _row: reader.set_attribute(state)))
        _overhear(result, lambda rows: None if rows else reader.expect_none())
        column = mapper.primary_key[0]
        identity = result._getter(adapter.columns[column] if adapter else column, raiseerr=False)  # noqa: SLF001
        if identity is not None and context.refresh_state is None:
            _overhear(result, lambda rows: reader.expect([identity(row) for row in rows]))


def _overhear(result: Any, listener: Callable[[Sequence[Any]], None]) -> None:
    if type(result) is CursorResult:
        result.__class__ = _OverheardResult
        vars(result)["_listeners"] = []
    if isinstance(result, _OverheardResult):
        vars(result)["_listeners"].append(listener)


class _OverheardResult(CursorResult[Any]):
    """The rows of a statement, which SQLAlchemy fetches before it makes the first instance of them."""

    __slots__ = ()
    _listeners: list[Callable[[Sequence[Any]], None]]

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """Fetch some rows (``yield_per``)."""
        return self._tell(super().fetchmany(size))

    def _raw_all_tuples(self) -> Sequence[Any]:
        return self._tell(super()._raw_all_tuples())

    def _raw_all_rows(self) -> Sequence[Any]:  # the name of the same in SQLAlchemy 2.0
        return self._tell(super()._raw_all_rows())  # type: ignore[misc]

    def _tell(self, rows: Sequence[Any]) -> Sequence[Any]:
        for listener in self._listeners:
            listener(rows)
        return rows


def after_rows(context: QueryContext, act: Callable[[], None]) -> None:
    """Have *act* called once the rows of the statement (or of a ``yield_per`` batch) are in, and their listeners called.

    This is how ``selectinload`` comes by its moment; no public event has it.
    """
    context.post_load_paths[act] = _AfterRows(act)  # type: ignore[index,assignment]


class _AfterRows:
    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def invoke(self, _context: QueryContext, _path: Any) -> None:
        self._act()
