"""Rows of a read model: filtered, sorted by any column that has an order, and paged.

A page begins behind the last row of the page before, by that row's value and key, and not behind a number of rows: the first page
and the thousandth take the same time. What has no value comes last, in either direction, and is read by a statement of its own, so
that an index on the column serves the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, tuple_, type_coerce
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from sa_eventsource.browser.document_conditions import condition_on_document, read_conditions
from sa_eventsource.browser.row_columns import SORTED, RowColumn, columns_of, key_columns, plain_value
from sa_eventsource.mapping import DOCUMENT
from sa_eventsource.store import CANCELED, code_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.read_models import ReadModelDefinition

SIZE = 50
"""How many rows a page has."""

_LONGEST = 1_000
"""How long a value may be that an address holds."""


@dataclass(frozen=True, slots=True)
class RowsAsked:
    """Which rows are asked for.

    Attributes:
        where: Conditions, as a reader writes them.
        sort: The column that they are sorted by; None for the key.
        descending: Whether the greatest comes first.
        after: The key of the row that the page begins behind; empty for the first page.
        value: That row's value of the column that they are sorted by; None where it has none.
    """

    where: str = ""
    sort: str | None = None
    descending: bool = False
    after: Sequence[str] = ()
    value: str | None = None


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row.

    Attributes:
        key: What identifies it, as an address has it.
        values: Its values, in the order of the columns.
    """

    key: Sequence[str]
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class RowsPage:
    """A page of rows.

    Attributes:
        columns: What the rows have, in order.
        asked: Which rows were asked for.
        rows: The rows.
        next: What the next page is asked with, beside filter and order; None if there is none.
        error: Why the conditions cannot be read; None where they can.
        problem: Why there are no rows to show; None where there are, or where there is none like that.
    """

    columns: Sequence[RowColumn]
    asked: RowsAsked
    rows: Sequence[ShownRow] = ()
    next: Mapping[str, Any] | None = None
    error: str | None = None
    problem: str | None = None


def read_rows(connection: Connection, definition: ReadModelDefinition, asked: RowsAsked, *, seconds: float) -> RowsPage:
    """Read a page of rows.

    Args:
        connection: Where to read.
        definition: The model.
        asked: Which rows.
        seconds: How long it may take, which the connection sees to: for the message.

    Raises:
        HTTPException: The address asks for what no page gives.
    """
    columns = columns_of(definition)
    sort = _sort(definition, columns, asked)
    try:
        conditions = row_conditions(columns, asked.where)
    except ValueError as error:
        return RowsPage([*columns.values()], asked, error=str(error))
    rows = _Rows(connection, definition, [*columns.values()], sort, conditions)
    try:
        with connection.begin_nested():
            found = rows.read(asked)
    except DBAPIError as error:
        if code_of(error) != CANCELED:
            raise
        indexed = ", ".join(each.name for each in columns.values() if each.has_index)
        problem = f"This took longer than {seconds:g} s, and was ended. An index serves conditions on, and the order of: {indexed}."
        return RowsPage([*columns.values()], asked, problem=problem)
    except (ValueError, LookupError) as error:
        problem = f"A row holds a value that the present declaration cannot read: {error}. Rebuild the model."
        return RowsPage([*columns.values()], asked, problem=problem)
    page = found[:SIZE]
    following = rows.following(page[-1]) if len(found) > SIZE else None
    return RowsPage([*columns.values()], asked, [rows.shown(each) for each in page], following)


def read_row(connection: Connection, definition: ReadModelDefinition, key: Sequence[str]) -> ShownRow | None:
    """Read one row by its key, as addresses have it; None if it is not there.

    Raises:
        HTTPException: It is no key of the model.
    """
    rows = _Rows(connection, definition, [*columns_of(definition).values()], None, [])
    found = connection.execute(rows.statement.where(rows.is_row(key))).one_or_none()
    return None if found is None else rows.shown(found)


def row_conditions(columns: Mapping[str, RowColumn], text: str) -> list[ColumnElement[bool]]:
    """Read conditions on rows, such as ``status = paid and total > 100``.

    Values are compared as what the column holds: numbers as numbers, times as times. ``~`` asks whether a text is contained,
    ``null`` whether there is none; a path leads into a document.

    Raises:
        ValueError: They cannot be read; the message says how to write them.
    """
    found = []
    for each in read_conditions(text, _example(columns)):
        column = columns.get(each.path[0])
        if column is None:
            raise ValueError(f"There is no column “{each.path[0]}”. There are: {', '.join(columns)}.")
        if each.asks_for_null and len(each.path) == 1:
            found.append(each.compare(column.column, None))
        elif column.kind == "document":
            if len(each.path) == 1:
                raise ValueError(f"{column.name} is a document: name a field in it, such as {column.name}.0 or {column.name}.city.")
            found.append(condition_on_document(type_coerce(column.column, DOCUMENT), (), each.path[1:], each))
        elif len(each.path) > 1:
            raise ValueError(f"{column.name} is no document, and has no “{'.'.join(each.path[1:])}”.")
        elif each.comparison == "~":
            if column.kind != "text":
                raise ValueError(f"~ asks whether a text is contained, and {column.name} is no text.")
            found.append(each.compare(column.column, each.value))
        else:
            found.append(each.compare(column.column, column.read(each.value)))
    return found


def _example(columns: Mapping[str, RowColumn]) -> str:
    return f"{next(iter(columns))} = 1 and version > 1"


def _sort(definition: ReadModelDefinition, columns: Mapping[str, RowColumn], asked: RowsAsked) -> RowColumn | None:
    if asked.sort is None:
        return None
    sort = columns.get(asked.sort)
    if sort is None or sort.kind not in SORTED:
        raise HTTPException(400, f"Rows of {definition.name} cannot be sorted by {asked.sort}.")
    return sort


class _Rows:
    """Rows in one order."""

    def __init__(
        self,
        connection: Connection,
        definition: ReadModelDefinition,
        columns: Sequence[RowColumn],
        sort: RowColumn | None,
        conditions: Sequence[ColumnElement[bool]],
    ) -> None:
        self._connection = connection
        self._sort = sort
        self._keys = key_columns(definition)
        self._names = [each.name for each in columns]
        self.statement = select(*(each.column.label(f"c_{number}") for number, each in enumerate(columns))).where(*conditions)

    def read(self, asked: RowsAsked) -> list[Any]:
        """Read a page's rows, and one more if there are more."""
        sort = self._sort
        if sort is None:
            return self._part([], self._keys, [*map(self._key, [asked.after])] if asked.after else None, asked)
        has_value, has_none = sort.column.is_not(None), sort.column.is_(None)
        found: list[Any] = []
        if not asked.after or asked.value is not None:
            after = [[_read(sort, asked.value or ""), *self._key(asked.after)]] if asked.after else None
            found = self._part([has_value], [sort, *self._keys], after, asked)
        if len(found) <= SIZE:
            after = [self._key(asked.after)] if asked.after and asked.value is None else None
            found += self._part([has_none], self._keys, after, asked, SIZE + 1 - len(found))
        return found

    def _part(
        self,
        conditions: Sequence[ColumnElement[bool]],
        order: Sequence[RowColumn],
        after: list[list[Any]] | None,
        asked: RowsAsked,
        size: int = SIZE + 1,
    ) -> list[Any]:
        columns = [each.column for each in order]
        statement = self.statement.where(*conditions).limit(size)
        statement = statement.order_by(*(each.desc() if asked.descending else each for each in columns))
        if after is not None:
            here, there = tuple_(*columns), tuple_(*after[0])
            statement = statement.where(here < there if asked.descending else here > there)
        return list(self._connection.execute(statement).all())

    def is_row(self, key: Sequence[str]) -> ColumnElement[bool]:
        """Select the row of a key."""
        return tuple_(*(each.column for each in self._keys)) == tuple_(*self._key(key))

    def _key(self, texts: Sequence[str]) -> list[Any]:
        if len(texts) != len(self._keys):
            raise HTTPException(400, f"“{', '.join(texts)}” identifies no row here. Begin with the first page.")
        return [_read(each, text) for each, text in zip(self._keys, texts, strict=True)]

    def following(self, row: Any) -> dict[str, Any] | None:
        """Give what the page behind a row is asked with; None where its value is too long for an address."""
        key, value = self.shown(row).key, None if self._sort is None else row[self._names.index(self._sort.name)]
        if self._sort is None or value is None:
            return None if max(map(len, key)) > _LONGEST else {"after": key}
        text = self._sort.written(value)
        return None if max(map(len, [*key, text])) > _LONGEST else {"after": key, "value": [text]}

    def shown(self, row: Any) -> ShownRow:
        """Make what a page shows of a row."""
        key = [each.written(row[self._names.index(each.name)]) for each in self._keys]
        return ShownRow(key, [plain_value(each) for each in row])


def _read(column: RowColumn, text: str) -> Any:
    try:
        return column.read(text)
    except ValueError as error:
        raise HTTPException(400, f"{error} Begin with the first page.") from None
