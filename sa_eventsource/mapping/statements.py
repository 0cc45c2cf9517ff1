"""What SQLAlchemy has no construct for: statements about a table with names that its compiler renders, and quoted literals.

So they are quoted as those of the table itself, and lie where ``schema_translate_map`` says. A driver that formats parameters into
its text wants percent signs doubled: names have that done; the text around them must have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import MetaData, Table, Text, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.sql import ColumnElement
    from sqlalchemy.sql.compiler import DDLCompiler, IdentifierPreparer


class TableNames:
    """The name of a table, and those that go with it, as one compiler renders them."""

    def __init__(self, table: Table, preparer: IdentifierPreparer) -> None:
        """Choose the table and the compiler's way to quote names and to find schemas."""
        self._table = table
        self._preparer = preparer

    @property
    def table(self) -> str:
        """The table, with its schema if it has one."""
        return self._preparer.format_table(self._table)

    def of(self, other: Table) -> str:
        """Another table, with its schema if it has one."""
        return self._preparer.format_table(other)

    def bare(self, name: str) -> str:
        """A name without a schema."""
        return self._preparer.quote(name)

    @property
    def bare_table(self) -> str:
        """The table without its schema, as triggers in SQLite, which are in their table's, name it."""
        return self.bare(self._table.name)

    def in_schema(self, template: str, *, default_schema: str | None = None) -> str:
        """Something in the table's schema: the template with the table's name in place of ``{}``.

        Args:
            template: The template.
            default_schema: The schema to name where the table's is not named.
        """
        schema = self._table.schema if self._preparer.schema_for_object(self._table) is not None else default_schema
        return self._preparer.format_table(Table(template.replace("{}", self._table.name), MetaData(), schema=schema))


Rendering: TypeAlias = "Callable[[TableNames], str]"
"""Writes a statement, given the names."""


class TableStatement(ExecutableDDLElement):
    """A statement about one table: ``connection.execute(TableStatement(table, lambda names: f"LOCK TABLE {names.table}"))``."""

    def __init__(self, table: Table, render: Rendering) -> None:
        """Choose the table, and what to say of it."""
        self.table = table
        self.render = render


@compiles(TableStatement)
def _text(element: TableStatement, compiler: DDLCompiler, **_: object) -> str:
    return element.render(TableNames(element.table, compiler.preparer))


def literal_name(rendered: str) -> str:
    """Write a rendered name as a literal, for what takes a table's or sequence's name as text.

    Quoted by dollars, so that it need not be known what the name holds: ``schema_translate_map`` puts schemas in afterwards.
    """
    return f"$name${rendered}$name$"


def lock_table(table: Table, mode: str) -> TableStatement:
    """Give PostgreSQL's statement that locks a table until the transaction ends.

    Args:
        table: The table.
        mode: The lock's mode, such as ``SHARE``.
    """
    return TableStatement(table, lambda names: f"LOCK TABLE {names.table} IN {mode} MODE")


def quoted(text: str) -> ColumnElement[str]:
    """Write a text into a statement as a literal, where a parameter would keep an index from being used."""
    return literal_column("'" + text.replace("'", "''") + "'", Text)
