"""Whether the triggers that guard an events table are there, at work, and still what they were made as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from sa_eventsource.mapping.immutability import FUNCTION_BODY, SQLITE_OPERATIONS, TRIGGER, TRUNCATE_TRIGGER, sqlite_trigger
from sa_eventsource.mapping.schemas import regclass_name, schema_of
from sa_eventsource.mapping.statements import TableNames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Table

_BEFORE_UPDATE_OR_DELETE, _BEFORE_TRUNCATE = 1 | 2 | 8 | 16, 2 | 32
"""``pg_trigger.tgtype``: for each row 1, BEFORE 2, DELETE 8, UPDATE 16, TRUNCATE 32."""

_POSTGRESQL_TRIGGERS = {
    TRIGGER: ("UPDATE and DELETE", _BEFORE_UPDATE_OR_DELETE),
    TRUNCATE_TRIGGER: ("TRUNCATE", _BEFORE_TRUNCATE),
}

_ENABLED = ("O", "A")
"""``pg_trigger.tgenabled``: at work in ordinary sessions, or in all."""


def trigger_faults(connection: Connection, events: Table) -> list[str]:
    """List what is wrong with the triggers that keep an events table as it is; nothing where all is well, or on other databases."""
    check = {"postgresql": _postgresql_faults, "sqlite": _sqlite_faults}.get(connection.dialect.name)
    return [] if check is None else list(check(connection, events))


def _postgresql_faults(connection: Connection, events: Table) -> Iterator[str]:
    catalogue = text("""
        SELECT t.tgrelid::regclass::text AS relation,
               t.tgname, t.tgenabled::text AS enabled, t.tgtype AS kind, p.prosrc AS body, p.oid::regprocedure::text AS function,
               t.tgqual IS NULL AND t.tgnargs = 0 AND t.tgattr::text = ''
                   AND p.proconfig IS NULL AND l.lanname = 'plpgsql' AS is_plain
        FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_language AS l ON l.oid = p.prolang
        WHERE t.tgname IN (:rows, :truncate) AND t.tgrelid IN (
            SELECT to_regclass(:events) UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(:events)
        )
    """)
    relations = text("""
        SELECT to_regclass(:events)::text AS relation, '' AS place
        UNION ALL
        SELECT inhrelid::regclass::text, ' on the partition ' || inhrelid::regclass FROM pg_inherits
        WHERE inhparent = to_regclass(:events)
        ORDER BY place
    """)
    where = {"events": regclass_name(connection, events)}
    parameters = {**where, "rows": TRIGGER, "truncate": TRUNCATE_TRIGGER}
    found = {(row.relation, row.tgname): row for row in connection.execute(catalogue, parameters)}
    for relation, place in connection.execute(relations, where):
        for name, (refused, kind) in _POSTGRESQL_TRIGGERS.items():
            yield from _fault(found.get((relation, name)), f"trigger {name}{place}", refused, kind)


def _fault(row: Any, name: str, refused: str, kind: int) -> Iterator[str]:
    if row is None:
        yield f"{name}, which refuses {refused}, is missing"
    elif row.enabled not in _ENABLED:
        yield f"{name}, which refuses {refused}, is disabled"
    elif row.kind != kind or not row.is_plain:
        yield f"{name}, which refuses {refused}, was changed"
    elif row.body.split() != FUNCTION_BODY.split():
        yield f"function {row.function}, by which {name} refuses {refused}, was changed"


def _sqlite_faults(connection: Connection, events: Table) -> Iterator[str]:
    preparer = connection.dialect.identifier_preparer
    names = TableNames(events, preparer)
    schema = schema_of(connection, events)
    # The catalogue's columns are the same in each attached database; only its schema is a name to be quoted.
    catalogue = "sqlite_master" if schema is None else f"{preparer.quote_schema(schema)}.sqlite_master"
    statement = text(f"SELECT name, sql FROM {catalogue} WHERE type = 'trigger' AND tbl_name = :table COLLATE NOCASE")
    found = {row.name: row.sql for row in connection.execute(statement, {"table": str(events.name)})}
    for operation in SQLITE_OPERATIONS:
        name = f"{TRIGGER}_{events.name}_{operation}"
        refused = "REPLACE" if operation == "insert" else operation.upper()
        definition = found.get(name)
        if definition is None:
            yield f"trigger {name}, which refuses {refused}, is missing"
        elif not definition.endswith(sqlite_trigger(operation)(names)):
            yield f"trigger {name}, which refuses {refused}, was changed"
