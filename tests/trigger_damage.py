"""Ways to take the triggers off a log, or their meaning from them, without a trace in its rows."""

from __future__ import annotations

import re

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from tests import PARTITIONS

POSTGRESQL = {
    "the trigger dropped": ("DROP TRIGGER sa_eventsource_immutable ON events",),
    "the trigger on TRUNCATE dropped": ("DROP TRIGGER sa_eventsource_immutable_truncate ON events",),
    "the function dropped": ("DROP FUNCTION events_immutable CASCADE",),
    "the trigger disabled": ("ALTER TABLE events DISABLE TRIGGER sa_eventsource_immutable",),
    "the trigger on TRUNCATE disabled": ("ALTER TABLE events DISABLE TRIGGER sa_eventsource_immutable_truncate",),
    "all triggers disabled": ("ALTER TABLE events DISABLE TRIGGER ALL",),
    "the trigger at work on replicas only": ("ALTER TABLE events ENABLE REPLICA TRIGGER sa_eventsource_immutable",),
    "the function emptied": (
        (
            "CREATE OR REPLACE FUNCTION events_immutable() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END; END $$"
        ),
    ),
    "the switch set for the function": ("ALTER FUNCTION events_immutable() SET sa_eventsource.allow_event_changes = 'on'",),
    "a condition on the trigger": (
        (
            "CREATE OR REPLACE TRIGGER sa_eventsource_immutable BEFORE UPDATE OR DELETE ON events "
            "FOR EACH ROW WHEN (OLD.version < 0) EXECUTE FUNCTION events_immutable()"
        ),
    ),
    "the trigger on one column only": (
        (
            "CREATE OR REPLACE TRIGGER sa_eventsource_immutable BEFORE DELETE OR UPDATE OF version ON events "
            "FOR EACH ROW EXECUTE FUNCTION events_immutable()"
        ),
    ),
    "the trigger on one operation only": (
        (
            "CREATE OR REPLACE TRIGGER sa_eventsource_immutable BEFORE DELETE ON events "
            "FOR EACH ROW EXECUTE FUNCTION events_immutable()"
        ),
    ),
    "the trigger calling another function": (
        "CREATE FUNCTION harmless() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        (
            "CREATE OR REPLACE TRIGGER sa_eventsource_immutable BEFORE UPDATE OR DELETE ON events "
            "FOR EACH ROW EXECUTE FUNCTION harmless()"
        ),
    ),
}

SQLITE = {
    **{
        f"the trigger on {operation} dropped": (f"DROP TRIGGER sa_eventsource_immutable_events_{operation}",)
        for operation in ("update", "delete", "insert")
    },
    "the trigger emptied": (
        "DROP TRIGGER sa_eventsource_immutable_events_update",
        "CREATE TRIGGER sa_eventsource_immutable_events_update BEFORE UPDATE ON events BEGIN SELECT 1; END",
    ),
    "a condition on the trigger": (
        "DROP TRIGGER sa_eventsource_immutable_events_delete",
        (
            "CREATE TRIGGER sa_eventsource_immutable_events_delete BEFORE DELETE ON events WHEN OLD.version < 0 "
            "BEGIN SELECT RAISE(ABORT, 'events are immutable: DELETE refused'); END"
        ),
    ),
    "the trigger on one column only": (
        "DROP TRIGGER sa_eventsource_immutable_events_update",
        (
            "CREATE TRIGGER sa_eventsource_immutable_events_update BEFORE UPDATE OF version ON events "
            "BEGIN SELECT RAISE(ABORT, 'events are immutable: UPDATE refused'); END"
        ),
    ),
}


def damage(engine: Engine, name: str) -> None:
    """Damage the triggers of a table named events in one of the ways."""
    with engine.begin() as connection:
        for statement in (POSTGRESQL if engine.dialect.name == "postgresql" else SQLITE)[name]:
            connection.execute(text(statement))
            if "truncate" in statement and engine.dialect.name == "postgresql":  # each partition refuses it by itself
                for number in range(PARTITIONS or 0):
                    connection.execute(text(re.sub(r"\bevents\b", f"events_p{number}", statement)))


def refusals(connection: Connection) -> dict[str, bool]:
    """Tell which changes of the first event the database refuses; all are undone. There must be an event."""
    columns = ", ".join(connection.execute(text("SELECT * FROM events LIMIT 1")).keys())
    changes = ["UPDATE events SET event_type = 'x'", "DELETE FROM events"]
    if connection.dialect.name == "postgresql":
        changes.append("TRUNCATE events")
    else:
        changes.append(f"REPLACE INTO events ({columns}) SELECT {columns} FROM events LIMIT 1")
    refused = {}
    for change in changes:
        savepoint = connection.begin_nested()
        try:
            connection.execute(text(change))
        except DBAPIError as error:
            refused[change] = "immutable" in str(error)
        else:
            refused[change] = False
        savepoint.rollback()
    return refused
