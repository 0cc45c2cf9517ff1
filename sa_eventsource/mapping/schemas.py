"""Where a table really is, for what PostgreSQL's catalogues are asked about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table


def schema_of(connection: Connection, table: Table) -> str | None:
    """Find the schema in which a connection finds a table, ``schema_translate_map`` included; None for its search path."""
    schema = connection.schema_for_object(table)
    if schema is None and table.schema is not None:  # translated to the default schema, as SQLAlchemy then renders it
        return connection.dialect.default_schema_name
    return schema


def regclass_name(connection: Connection, table: Table) -> str:
    """Write a table's name as PostgreSQL's ``to_regclass`` takes it; pass it as a parameter."""
    parts = (schema_of(connection, table), str(table.name))
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts if part is not None)
