"""Rows that Python works out: locked and read by one statement, written back by one.

The second inserts rows that were not there when the first looked. Where another transaction has made one meanwhile, it leaves that
one alone and does not name it among those that it has inserted: it must be read, and worked out, again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, UniqueConstraint, and_, bindparam, cast, column, delete, false, func, null, select, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from sa_eventsource.mapping import conflict_key, quoted
from sa_eventsource.read_models.fields import KEPT
from sa_eventsource.read_models.mapped_rows import POSITIONS, document_columns

if TYPE_CHECKING:
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.read_models.read_model_definition import ReadModelDefinition


class FoldedRows:
    """The statements for a model.

    Attributes:
        lock: Selects the rows of parameter ``keys``, a JSON array of objects of the identity's columns, and locks them in the order
            of the keys: key and fields, then ``version``, ``created_at`` and ``updated_at``.
        before: Statements that write a part of this beforehand, by the name of their parameter, for a model with unique fields:
            PostgreSQL carries out the parts of one statement in an order of its own, and a value that one row gives up could not be
            taken by another.
        write: Writes rows as the table has them, each an object of its columns: ``changed`` ones, which are there; ``added`` ones,
            which are not; of ``removed`` ones the identity. Returns the identity of the added rows that it has inserted.
        identity: Names of the columns that identify a row.
    """

    def __init__(self, definition: ReadModelDefinition) -> None:
        """Build them."""
        self._definition = definition
        self._table = definition.table
        if definition.has_own_table:
            columns: dict[str, Any] = {part.name: definition.model.__mapper__.columns[part.name] for part in definition.parts}
            self.identity = [columns[part.name].name for part in definition.key]
            self._values = [columns[each.name].name for each in definition.fields]
        else:
            columns = dict(document_columns(definition, self._table))
            self.identity = ["id"]
            self._values = ["data"]
        self._values += KEPT
        self.lock = self._lock(columns)
        changed, removed = self._records("changed", [*self.identity, *self._values]), self._records("removed", self.identity)
        change = update(self._table).values({name: changed.c[name] for name in self._values}).where(self._is_row(changed))
        remove = delete(self._table).where(self._is_row(removed))
        self.before: dict[str, Any] = {"removed": remove, "changed": change} if _has_unique_values(definition) else {}
        self.write = self._add()
        if not self.before:
            self.write = self.write.add_cte(change.cte("change"), remove.cte("remove"))

    def _lock(self, columns: dict[str, Any]) -> Any:
        keys = self._records("keys", self.identity)
        identity = [self._table.c[name] for name in self.identity]
        kept = [self._table.c[name] for name in KEPT]
        return (
            select(*(each.label(name) for name, each in columns.items()), *kept)
            .where(tuple_(*identity).in_(select(*(keys.c[name] for name in self.identity))), *self._of_model())
            .order_by(*identity)
            .with_for_update(of=self._table)
        )

    def _add(self) -> Any:
        added = self._records("added", [*self.identity, *self._values])
        positions = POSITIONS if self._definition.has_own_table else "positions"
        new: dict[str, Any] = {name: added.c[name] for name in (*self.identity, *self._values)} | {positions: null()}
        if not self._definition.has_own_table:
            new["projection_name"] = quoted(self._definition.name)
        rows = select(*new.values()).order_by(*(added.c[name] for name in self.identity))
        target = self.identity if self._definition.has_own_table else ["id", "projection_name"]
        return (
            insert(self._table)
            .from_select(list(new), rows, include_defaults=False)
            .on_conflict_do_nothing(index_elements=conflict_key(self._table, *(self._table.c[name] for name in target)))
            .returning(*(self._table.c[name] for name in self.identity))
        )

    def _records(self, parameter: str, names: list[str]) -> Any:
        """Read a JSON array as rows of the table, each value as the column's type reads it."""
        blank = self._table.alias("blank")
        row = select(blank.table_valued()).where(false()).correlate(None).scalar_subquery()
        records = func.jsonb_populate_recordset(row, cast(bindparam(parameter, type_=Text), JSONB))
        return records.table_valued(*(column(name, self._table.c[name].type) for name in names), name=f"{parameter}_row")

    def _is_row(self, records: Any) -> ColumnElement[bool]:
        return and_(*(self._table.c[name] == records.c[name] for name in self.identity), *self._of_model())

    def _of_model(self) -> list[ColumnElement[bool]]:
        if self._definition.has_own_table:
            return []
        return [self._table.c.projection_name == quoted(self._definition.name)]


def _has_unique_values(definition: ReadModelDefinition) -> bool:
    """Check whether rows have values, besides their key, that no two may share."""
    if any(each.declaration.unique for each in definition.fields):
        return True
    table = definition.table
    return definition.has_own_table and (
        any(each.unique for each in table.indexes) or any(isinstance(each, UniqueConstraint) for each in table.constraints)
    )


def folded_rows(definition: ReadModelDefinition) -> FoldedRows:
    """Build, once, the statements for a model's rows."""
    kept = definition.statements
    found: FoldedRows | None = kept.get("folded rows")
    if found is None:
        found = kept["folded rows"] = FoldedRows(definition)
    return found
