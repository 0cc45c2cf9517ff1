"""Are the unique constraints and indexes there that log and read models rest on? Without them, nobody refuses a second row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint, inspect

from sa_eventsource.mapping import schema_of
from sa_eventsource.read_models import unique_indexes
from sa_eventsource.store import database_of
from sa_eventsource.verification.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sqlalchemy import Connection, Table

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.read_models import ReadModelDefinition


def check_log_constraints(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find constraints of the log that the database does not have: two writers would get the same place in a stream."""
    for columns in _missing_constraints(connection, tables.events, PrimaryKeyConstraint, UniqueConstraint):
        yield Finding(
            "constraints",
            tables.events.name,
            f"the unique constraint on {columns} is missing: events may be stored twice, or two in one place of a stream. "
            f"Migrate the database: ALTER TABLE ... ADD UNIQUE ({columns}), which fails if there are some already",
        )


def check_unique_indexes(connection: Connection, definition: ReadModelDefinition) -> Iterator[Finding]:
    """Find unique indexes of a read model that the database does not have: ``create_all`` adds none to a table that is there."""
    table = definition.table
    declared = unique_indexes(definition)
    for name in sorted(declared - database_of(connection.dialect).unique_indexes(connection, table)) if declared else ():
        yield _missing(definition, f"index {name}")
    if definition.has_own_table:
        for columns in _missing_constraints(connection, table, UniqueConstraint):
            yield _missing(definition, f"constraint on {columns}")


def _missing_constraints(
    connection: Connection, table: Table, *kinds: type[PrimaryKeyConstraint | UniqueConstraint]
) -> Iterator[str]:
    """List the columns of a table's constraints of some kinds that the database does not have."""
    declared = [[column.name for column in each.columns] for each in table.constraints if isinstance(each, kinds)]
    if not declared:
        return
    inspector, schema = inspect(connection), schema_of(connection, table)
    found = {frozenset(each["column_names"]) for each in inspector.get_unique_constraints(table.name, schema=schema)}
    if PrimaryKeyConstraint in kinds:
        found.add(frozenset(inspector.get_pk_constraint(table.name, schema=schema)["constrained_columns"]))
    yield from (", ".join(names) for names in declared if frozenset(names) not in found)


def _missing(definition: ReadModelDefinition, what: str) -> Finding:
    return Finding(
        "read models", definition.name, f"the unique {what} is missing, so that rows may share a value; migrate the database"
    )
