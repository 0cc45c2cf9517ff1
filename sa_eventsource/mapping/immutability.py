"""The triggers that keep stored events as they are, whoever connects.

They refuse UPDATE, DELETE and TRUNCATE. Work that must rewrite history, such as erasing personal data, opens them for one
transaction with ``SET LOCAL sa_eventsource.allow_event_changes = 'on'``; SQLite has triggers but no such switch, and there they
always refuse.

The statements are DDL elements, so that SQLAlchemy renders names and schemas as it does for the table itself: quoted where need be,
and in a tenant's schema where ``schema_translate_map`` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import event

from sa_eventsource.mapping.statements import TableNames, TableStatement, literal_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Table

    from sa_eventsource.mapping.statements import Rendering

SWITCH = "sa_eventsource.allow_event_changes"
"""The setting that, when ``on`` in a transaction, lets that transaction change or delete events."""

TRIGGER = "sa_eventsource_immutable"
"""Name of the trigger on PostgreSQL that refuses UPDATE and DELETE; the others' names begin with it."""

TRUNCATE_TRIGGER = f"{TRIGGER}_truncate"
"""Name of the trigger on PostgreSQL that refuses TRUNCATE."""

# No percent signs here: drivers would take them for parameters, and SQL that is printed, as Alembic does, would double them.
FUNCTION_BODY = f"""
BEGIN
    IF current_setting('{SWITCH}', true) = 'on' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    RAISE EXCEPTION USING
        MESSAGE = 'events are immutable: ' || TG_OP || ' of ' || TG_TABLE_NAME || ' refused',
        ERRCODE = 'restrict_violation',
        HINT = 'Append a new event that corrects the old one instead.';
END """
"""What the triggers on PostgreSQL do, in PL/pgSQL."""

_FUNCTION = "{}_immutable"

SQLITE_OPERATIONS = ("update", "delete", "insert")
"""What the triggers on SQLite watch; of INSERT, they refuse the one that replaces (``INSERT OR REPLACE``, ``REPLACE INTO``)."""


def create_statements(table: Table, dialect: str) -> list[TableStatement]:
    """List the statements that put the triggers on an events table, or put them right again.

    Args:
        table: The events table.
        dialect: ``postgresql`` or ``sqlite``; none exist for others.
    """
    return _statements(table, {"postgresql": _POSTGRESQL, "sqlite": [*_SQLITE_DROPS, *_SQLITE]}.get(dialect, ()))


def drop_statements(table: Table, dialect: str) -> list[TableStatement]:
    """List the statements that take the triggers off again. Arguments as for :func:`create_statements`."""
    return _statements(table, {"postgresql": _POSTGRESQL_DROPS, "sqlite": _SQLITE_DROPS}.get(dialect, ()))


def guard_events(table: Table) -> None:
    """Have ``create_all`` put the triggers on *table*, and ``drop_all`` remove the function that they leave behind.

    So with its copies, such as ``Table.to_metadata()`` makes.
    """
    event.listen(table, "after_create", _put_triggers, propagate=True)
    event.listen(table, "after_drop", _remove_function, propagate=True)


def is_guarded(table: Table) -> bool:
    """Check whether *table* is an event log, or a copy of one."""
    return _put_triggers in table.dispatch.after_create  # event.contains() does not know of copies


def _put_triggers(table: Table, connection: Connection, **_: object) -> None:
    for statement in create_statements(table, connection.dialect.name):
        connection.execute(statement)


def _remove_function(table: Table, connection: Connection, **_: object) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(TableStatement(table, _drop_function))


def _statements(table: Table, renderings: Sequence[Rendering]) -> list[TableStatement]:
    return [TableStatement(table, render) for render in renderings]


def _function(names: TableNames) -> str:
    return f"CREATE OR REPLACE FUNCTION {names.in_schema(_FUNCTION)}() RETURNS trigger LANGUAGE plpgsql AS $${FUNCTION_BODY}$$"


def _row_trigger(names: TableNames) -> str:
    return (
        f"CREATE OR REPLACE TRIGGER {TRIGGER} BEFORE UPDATE OR DELETE ON {names.table} "
        f"FOR EACH ROW EXECUTE FUNCTION {names.in_schema(_FUNCTION)}()"
    )


def _truncate_trigger(names: TableNames) -> str:
    return (
        f"CREATE OR REPLACE TRIGGER {TRUNCATE_TRIGGER} BEFORE TRUNCATE ON {names.table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {names.in_schema(_FUNCTION)}()"
    )


def _on_partitions(names: TableNames, before: str, behind: str) -> str:
    """Execute a statement on each partition that a table has: it has no name that is known before."""
    return (
        "DO $do$ DECLARE part text; BEGIN "
        f"FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = {literal_name(names.table)}::regclass "
        f"LOOP EXECUTE $sql${before} $sql$ || part || $sql${behind}$sql$; END LOOP; END $do$"
    )


def _truncate_triggers_of_partitions(names: TableNames) -> str:
    """Put on each partition what a table's trigger for statements does not do there; triggers for rows come by themselves."""
    call = f" FOR EACH STATEMENT EXECUTE FUNCTION {names.in_schema(_FUNCTION)}()"
    return _on_partitions(names, f"CREATE OR REPLACE TRIGGER {TRUNCATE_TRIGGER} BEFORE TRUNCATE ON", call)


def _drop_truncate_triggers_of_partitions(names: TableNames) -> str:
    return _on_partitions(names, f"DROP TRIGGER IF EXISTS {TRUNCATE_TRIGGER} ON", "")


def _drop_function(names: TableNames) -> str:
    return f"DROP FUNCTION IF EXISTS {names.in_schema(_FUNCTION)}()"


def _sqlite_name(names: TableNames, operation: str) -> str:
    # Without a schema, SQLite would drop the trigger of an attached database where the main one has none.
    return names.in_schema(f"{TRIGGER}_{{}}_{operation}", default_schema="main")


def sqlite_trigger(operation: str) -> Rendering:
    """Give what renders the definition of SQLite's trigger for an operation, from ``BEFORE`` on."""
    return {"update": _sqlite_refusal("UPDATE"), "delete": _sqlite_refusal("DELETE"), "insert": _sqlite_replacement}[operation]


def _sqlite_refusal(operation: str) -> Rendering:
    def render(names: TableNames) -> str:
        refusal = f"SELECT RAISE(ABORT, 'events are immutable: {operation} refused');"
        return f"BEFORE {operation} ON {names.bare_table} BEGIN {refusal} END"

    return render


def _sqlite_replacement(names: TableNames) -> str:
    """Refuse to replace a row, which fires no trigger for the row that goes; leave all other ways to meet a row as they are.

    A trigger cannot ask whether its statement replaces. But the statement's way to resolve conflicts also applies to what the
    trigger inserts, unless it is the default: a row without the ``event_version`` that must not be null is left out, and only under
    REPLACE goes in with the column's default. It never stays, because the statement is then refused.
    """
    table = names.bare_table
    columns = "event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, occurred_at, position"
    return (
        f"BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE event_id = NEW.event_id OR position = NEW.position OR "
        f"(aggregate_type = NEW.aggregate_type AND aggregate_id = NEW.aggregate_id AND version = NEW.version) OR "
        f"rowid = NEW.rowid) BEGIN "
        f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ('', '', '', 0, '', NULL, '', '', -1); "
        f"SELECT RAISE(ABORT, 'events are immutable: REPLACE refused') FROM {table} WHERE event_id = ''; END"
    )


def _create_sqlite(operation: str) -> Rendering:
    return lambda names: f"CREATE TRIGGER {_sqlite_name(names, operation)} {sqlite_trigger(operation)(names)}"


def _drop_sqlite(operation: str) -> Rendering:
    return lambda names: f"DROP TRIGGER IF EXISTS {_sqlite_name(names, operation)}"


_POSTGRESQL = (_function, _row_trigger, _truncate_trigger, _truncate_triggers_of_partitions)
_POSTGRESQL_DROPS = (
    lambda names: f"DROP TRIGGER IF EXISTS {TRIGGER} ON {names.table}",
    lambda names: f"DROP TRIGGER IF EXISTS {TRUNCATE_TRIGGER} ON {names.table}",
    _drop_truncate_triggers_of_partitions,
    _drop_function,
)
_SQLITE = tuple(_create_sqlite(each) for each in SQLITE_OPERATIONS)
_SQLITE_DROPS = tuple(_drop_sqlite(each) for each in SQLITE_OPERATIONS)
