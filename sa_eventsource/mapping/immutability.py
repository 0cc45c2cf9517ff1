"""The trigger that keeps stored events as they are, whoever connects.

It refuses UPDATE, DELETE and TRUNCATE. Work that must rewrite history, such as erasing personal data, opens it for one
transaction with ``SET LOCAL sa_eventsource.allow_event_changes = 'on'``; SQLite has triggers but no such switch, and there the
trigger always refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import DDL, event

if TYPE_CHECKING:
    from sqlalchemy import Table

SWITCH = "sa_eventsource.allow_event_changes"
"""The setting that, when ``on`` in a transaction, lets that transaction change or delete events."""

TRIGGER = "sa_eventsource_immutable"
"""Name of the trigger, or its beginning."""


def create_statements(table: str, schema: str | None, dialect: str) -> list[str]:
    """List the statements that put the trigger on an events table.

    Args:
        table: Name of the events table, unquoted.
        schema: Its schema, or None for the connection's search path.
        dialect: ``postgresql`` or ``sqlite``; none exist for others.
    """
    if dialect == "postgresql":
        name, function = _qualified(schema, table), _qualified(schema, f"{table}_immutable")
        return [
            f"""CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('{SWITCH}', true) = 'on' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    RAISE EXCEPTION 'events are immutable: % of % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation',
              HINT = 'Append a new event that corrects the old one instead.';
END $$""",
            f"CREATE OR REPLACE TRIGGER {TRIGGER} BEFORE UPDATE OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION {function}()",
            (
                f"CREATE OR REPLACE TRIGGER {TRIGGER}_truncate BEFORE TRUNCATE ON {name} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
            ),
        ]
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER IF NOT EXISTS {_qualified(schema, f'{TRIGGER}_{table}_{operation.lower()}')} BEFORE {operation} "
            f"ON {_quoted(table)} BEGIN SELECT RAISE(ABORT, 'events are immutable: {operation} refused'); END"
            for operation in ("UPDATE", "DELETE")
        ]
    return []


def drop_statements(table: str, schema: str | None, dialect: str) -> list[str]:
    """List the statements that take the trigger off again. Dropping the table drops it too, but leaves its function."""
    if dialect == "postgresql":
        return [f"DROP FUNCTION IF EXISTS {_qualified(schema, f'{table}_immutable')}() CASCADE"]
    if dialect == "sqlite":
        return [
            f"DROP TRIGGER IF EXISTS {_qualified(schema, f'{TRIGGER}_{table}_{operation}')}" for operation in ("update", "delete")
        ]
    return []


def guard_events(table: Table) -> None:
    """Have ``create_all`` put the trigger on *table*, and ``drop_all`` remove what it leaves behind."""
    for dialect in ("postgresql", "sqlite"):
        for statement in create_statements(table.name, table.schema, dialect):
            event.listen(table, "after_create", DDL(statement.replace("%", "%%")).execute_if(dialect=dialect))  # type: ignore[no-untyped-call]
    for statement in drop_statements(table.name, table.schema, "postgresql"):
        event.listen(table, "after_drop", DDL(statement).execute_if(dialect="postgresql"))  # type: ignore[no-untyped-call]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _qualified(schema: str | None, name: str) -> str:
    return _quoted(name) if schema is None else f"{_quoted(schema)}.{_quoted(name)}"
