"""Is the log guarded? Triggers that refuse changes, at work, and no setting that opens them for everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from sa_eventsource.mapping import SWITCH, regclass_name, trigger_faults
from sa_eventsource.store import database_of
from sa_eventsource.verification.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables


def check_immutability(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find triggers that are missing, disabled or changed, and settings under which they let changes pass."""
    guarded = [tables.events] if tables.archived_events is None else [tables.events, tables.archived_events]
    for table in guarded:
        for fault in trigger_faults(connection, table):
            advice = "events may have been changed since. Put it right by a migration: op.create_event_immutability()"
            yield Finding("immutability", table.name, f"{fault}; {advice}")
    if database_of(connection.dialect).is_server:
        yield from _check_settings(connection)
        yield from _check_what_rewrites(connection, tables)


def _check_what_rewrites(connection: Connection, tables: EventSourceTables) -> Iterator[Finding]:
    """Find what may change or leave out the events of an INSERT. The append notices what is left out, and not what is changed."""
    found = connection.execute(
        text("""
            SELECT DISTINCT 'trigger' AS kind, tgname AS name FROM pg_trigger
            WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 7 = 7 AND tgrelid IN (
                SELECT to_regclass(:events) UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(:events)
            )
            UNION ALL
            SELECT 'rule', rulename FROM pg_rewrite WHERE ev_class = to_regclass(:events) AND ev_enabled <> 'D'
            ORDER BY kind, name
        """),  # 7: BEFORE INSERT, for each row
        {"events": regclass_name(connection, tables.events)},
    )
    for kind, name in found:
        yield Finding(
            "immutability",
            tables.events.name,
            f"{kind} {name} may change or leave out what is appended. Drop it, unless you know that it does neither",
            is_warning=True,
        )


def _check_settings(connection: Connection) -> Generator[Finding, None, None]:
    here = connection.execute(
        text("SELECT current_setting('session_replication_role'), coalesce(current_setting(:switch, true), '')"), {"switch": SWITCH}
    ).one()
    everywhere = connection.execute(
        text("""
            SELECT coalesce(nullif(setrole, CAST(0 AS oid))::regrole::text, '(all roles)') AS role, setting
            FROM pg_db_role_setting, unnest(setconfig) AS setting
            WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
              AND lower(setting) IN ('session_replication_role=replica', :open)
            ORDER BY role, setting
        """),
        {"open": f"{SWITCH}=on"},
    ).all()
    for role, setting in everywhere:
        yield Finding(
            "immutability", str(role), f"ALTER ROLE or ALTER DATABASE has set {setting}: no trigger refuses changes there. Reset it"
        )
    if not everywhere and (here[0] == "replica" or here[1] == "on"):
        name = SWITCH if here[1] == "on" else "session_replication_role"
        yield Finding("immutability", name, "it is set in this very session, where no trigger refuses changes. Do not set it here")
