"""What roles may do in a database, against what they are declared to: what they lack, and what they have beyond it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from sa_eventsource.mapping import check_connection, regclass_name, row_security_faults, tables_of_base
from sa_eventsource.roles.declared_rights import MAINTAIN, rights_on, roles_of
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Table

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.roles.declared_rights import Rights


@dataclass(frozen=True, slots=True)
class RoleFault:
    """Something about a role that is not as declared.

    Attributes:
        role: The role; ``(any role)`` for what is about several.
        message: What is wrong, and what to do.
        table: The name of the table on which it lacks a right or has one too many; None where it is about the role.
        is_lack: Whether something is missing: an error for those who connect as this role, and not a danger.
    """

    role: str
    message: str
    table: str | None = None
    is_lack: bool = False

    def __str__(self) -> str:
        """One line."""
        return f"{self.role}: {self.message}"


def role_faults(connection: Connection, base: Any) -> list[RoleFault]:
    """Compare what the roles of a base may do in a database with what they are declared to.

    Row security on the library's tables that tenants do not share is found too, as it hides rows that a role may read.

    What a role may do by itself, by roles that it is a member of and by what everybody may, is all the same. Tables that are not
    there are left out. On databases without roles, such as SQLite, nothing is found.

    Args:
        connection: To the database, as whomever.
        base: The declarative base.

    Raises:
        DeclarationError: The base declares no roles.
        TypeError: The connection is none, or what is given is not a declarative base.
    """
    tables = tables_of_base("role_faults()", base)
    check_connection("role_faults()", connection, tables.events)
    faults = faults_of_roles(connection, tables)
    if database_of(connection.dialect).is_server:
        for table, fault in row_security_faults(connection, tables):
            advice = "DROP POLICY, and ALTER TABLE ... DISABLE ROW LEVEL SECURITY"
            faults.append(RoleFault(_ANY, f"{table.name}: {fault}. {advice}", table.name))
    return faults


_ANY = "(any role)"


def faults_of_roles(connection: Connection, tables: EventSourceTables) -> list[RoleFault]:
    """Do what :func:`role_faults` does, given the tables."""
    roles = roles_of(tables)
    if not database_of(connection.dialect).is_server:
        return []
    found = {row.name: row for row in connection.execute(_ROLES, {"names": list(roles.names()), **_log(connection, tables)})}
    faults = [fault for name in roles.names() if (fault := _of_role(name, found[name])) is not None]
    blind = {each.role for each in faults}
    return faults + [
        fault for rights, row in _asked(connection, tables) if rights.role not in blind for fault in _of_table(rights, row)
    ]


def tables_to_grant(connection: Connection, tables: EventSourceTables) -> list[Rights]:
    """List the rights that roles lack, also on tables that are not there: those that a migration is to grant."""
    return [rights for rights, row in _asked(connection, tables) if not row.is_there or row.lacking]


def _of_role(name: str, row: Any) -> RoleFault | None:
    if not row.is_there:
        return RoleFault(name, "there is no such role. Run create_roles(connection, Base), or the migrations", is_lack=True)
    if row.is_superuser:
        return RoleFault(name, "it is a superuser, whom no right stops. ALTER ROLE ... NOSUPERUSER")
    if row.is_owner:
        return RoleFault(
            name, "it is, or may become, the owner of the events, who may drop their triggers. Have another role own them"
        )
    return None


def _of_table(rights: Rights, row: Any) -> Iterator[RoleFault]:
    if not row.is_there:
        return
    name = rights.table.name
    if row.lacking:
        yield RoleFault(
            rights.role,
            f"it lacks {', '.join(row.lacking)} on {name}. Run create_roles(connection, Base), or a migration",
            name,
            is_lack=True,
        )
    if row.beyond:
        yield RoleFault(rights.role, f"it may {', '.join(row.beyond)} on {name}, and is not to. REVOKE it", name)


def _log(connection: Connection, tables: EventSourceTables) -> dict[str, str]:
    return {"events": regclass_name(connection, tables.events)}


def _asked(connection: Connection, tables: EventSourceTables) -> Iterator[tuple[Rights, Any]]:
    version = connection.scalar(text("SELECT current_setting('server_version_num')::int")) or 0
    every: list[str] = [*_ALL, MAINTAIN] if version >= _HAS_MAINTAIN else [*_ALL]
    declared = rights_on(tables)
    asked = [_question(connection, each.role, each.table, each.privileges, every) for each in declared]
    rows = connection.execute(_RIGHTS, {"asked": json.dumps(asked)}).all()
    yield from zip(declared, rows, strict=True)


def _question(connection: Connection, role: str, table: Table, privileges: tuple[str, ...], every: list[str]) -> dict[str, Any]:
    whole = [each for each in privileges if "(" not in each and each in every]
    columns = [
        {"privilege": kind, "column": column.strip()}
        for each in privileges
        if "(" in each
        for kind, _, listed in [each.removesuffix(")").partition(" (")]
        for column in listed.split(",")
    ]
    return {
        "role": role,
        "name": regclass_name(connection, table),
        "whole": whole,
        "columns": columns,
        "beyond": [each for each in every if each not in whole],
        "beyond_in_part": [
            each for each in _OF_COLUMNS if each not in whole and each not in {found["privilege"] for found in columns}
        ],
    }


_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
_OF_COLUMNS = ("SELECT", "INSERT", "UPDATE", "REFERENCES")
_HAS_MAINTAIN = 170000

_ROLES = text("""
    SELECT asked.name, r.oid IS NOT NULL AS is_there, coalesce(r.rolsuper, false) AS is_superuser,
        coalesce(pg_has_role(r.oid, (SELECT relowner FROM pg_class WHERE oid = to_regclass(:events)), 'MEMBER'), false) AS is_owner
    FROM unnest(CAST(:names AS text[])) AS asked (name) LEFT JOIN pg_roles AS r ON r.rolname = asked.name
""")

_RIGHTS = text("""
    SELECT r.oid IS NOT NULL AND t.oid IS NOT NULL AS is_there,
        (
            SELECT array_agg(privilege ORDER BY number)
            FROM json_array_elements_text(whole) WITH ORDINALITY AS e (privilege, number)
            WHERE NOT has_table_privilege(r.oid, t.oid, privilege)
        ) || (
            SELECT array_agg(format('%s (%s)', privilege, listed) ORDER BY privilege) FROM (
                SELECT e->>'privilege', string_agg(e->>'column', ', ' ORDER BY number)
                FROM json_array_elements(columns) WITH ORDINALITY AS c (e, number)
                WHERE NOT has_column_privilege(r.oid, t.oid, e->>'column', e->>'privilege')
                GROUP BY 1
            ) AS found (privilege, listed)
        ) || (
            SELECT ARRAY['USAGE of its schema'] WHERE NOT has_schema_privilege(r.oid, t.relnamespace, 'USAGE')
                AND json_array_length(whole) + json_array_length(columns) > 0
        ) || (
            SELECT array_agg('USAGE of sequence ' || s.relname)
            FROM pg_depend JOIN pg_class AS s ON s.oid = objid
            WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND refobjid = t.oid AND deptype = 'a'
                AND (
                    'INSERT' IN (SELECT json_array_elements_text(whole))
                    OR 'INSERT' IN (SELECT e->>'privilege' FROM json_array_elements(columns) AS e)
                )
                AND CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(r.oid, s.oid, 'USAGE') END
        ) AS lacking,
        (
            SELECT array_agg(privilege ORDER BY privilege) FROM (
                SELECT privilege FROM json_array_elements_text(beyond) AS e (privilege)
                WHERE has_table_privilege(r.oid, t.oid, privilege)
                UNION
                SELECT privilege FROM json_array_elements_text(beyond_in_part) AS e (privilege)
                WHERE has_any_column_privilege(r.oid, t.oid, privilege)
                UNION
                SELECT format('%s (%s)', privilege, string_agg(a.attname, ', ' ORDER BY a.attnum))
                FROM (SELECT DISTINCT e->>'privilege' FROM json_array_elements(columns) AS e) AS p (privilege)
                JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
                WHERE NOT has_table_privilege(r.oid, t.oid, privilege) AND has_column_privilege(r.oid, t.oid, a.attnum, privilege)
                    AND (privilege, a.attname) NOT IN (SELECT e->>'privilege', e->>'column' FROM json_array_elements(columns) AS e)
                GROUP BY privilege
            ) AS found (privilege)
        ) AS beyond
    FROM ROWS FROM (
            json_to_recordset(CAST(:asked AS json))
                AS (role text, name text, whole json, columns json, beyond json, beyond_in_part json)
        ) WITH ORDINALITY AS asked (role, name, whole, columns, beyond, beyond_in_part, number)
        LEFT JOIN pg_roles AS r ON r.rolname = asked.role LEFT JOIN pg_class AS t ON t.oid = to_regclass(asked.name)
    ORDER BY number
""")
