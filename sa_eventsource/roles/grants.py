"""The statements that give roles their rights: those they have on a table are taken back first, so that they can be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.mapping import TableStatement, check_connection, create_role, literal_name, tables_of_base
from sa_eventsource.roles.declared_rights import MAINTAIN, rights_on, roles_of
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Table

    from sa_eventsource.mapping import EventSourceTables, Rendering


def create_roles(connection: Connection, base: Any) -> None:
    """Create the roles of a base that are not there, and give each its rights on the library's tables, and no others on them.

    Run it in a transaction, as the owner of the tables, who needs the attribute ``CREATEROLE`` where a role is not there yet. They
    are roles that nobody logs in as: ``GRANT shop_app TO somebody``, or ``ALTER ROLE shop_app LOGIN PASSWORD ...``. Run it again
    when tables were added or the rights have changed. On databases without roles, such as SQLite, nothing is done.

    Args:
        connection: Such as that of ``engine.begin()``; on an ``AsyncConnection``,
            ``await connection.run_sync(create_roles, Base)``.
        base: The declarative base, which says ``__eventsource__ = EventSourceOptions(roles=Roles(...))``.

    Raises:
        DeclarationError: The base declares no roles.
        TypeError: The connection is none, or what is given is not a declarative base.
        ProgrammingError: From the database: whose connection it is does not own the tables, or may not create roles.
    """
    tables = tables_of_base("create_roles()", base)
    check_connection("create_roles()", connection, tables.events)
    statements = rights_statements(tables)
    if database_of(connection.dialect).is_server:
        for statement in statements:
            connection.execute(statement)


def rights_statements(tables: EventSourceTables) -> list[TableStatement]:
    """List the statements that :func:`create_roles` executes.

    Raises:
        DeclarationError: The base declares no roles.
    """
    statements = [TableStatement(tables.events, create_role(role)) for role in roles_of(tables).names()]
    for rights in rights_on(tables):
        statements += grant_statements(*rights)
    return statements


def role_statement(table: Table, role: str) -> TableStatement:
    """Give the statement that creates a role unless it is there. It is about no table; any will do."""
    return TableStatement(table, create_role(role))


def grant_statements(role: str, table: Table, privileges: Sequence[str]) -> list[TableStatement]:
    """List the statements that give a role these rights on a table and no others, with what they need around it.

    Args:
        role: The role, which is there.
        table: The table.
        privileges: As ``GRANT`` names them.
    """
    statements = [TableStatement(table, lambda names: f"REVOKE ALL ON TABLE {names.table} FROM {names.bare(role)}")]
    everywhere = [each for each in privileges if each != MAINTAIN]
    if everywhere:
        listed = ", ".join(everywhere)
        statements.append(TableStatement(table, lambda names: f"GRANT {listed} ON TABLE {names.table} TO {names.bare(role)}"))
        inserts = any(each.startswith("INSERT") for each in privileges)
        statements.append(TableStatement(table, _around(role, with_sequences=inserts)))
    if MAINTAIN in privileges:
        statements.append(TableStatement(table, _maintain(role)))
    return statements


def _around(role: str, *, with_sequences: bool) -> Rendering:
    """Let a role use the schema of a table, and the sequences that its columns draw from unless they are identities."""
    sequences = """
        FOR what IN
            SELECT objid::regclass FROM pg_depend JOIN pg_class ON pg_class.oid = objid AND relkind = $s$S$s$
            WHERE classid = $s$pg_class$s$::regclass AND refclassid = $s$pg_class$s$::regclass
                AND refobjid = home.oid AND deptype = $s$a$s$
        LOOP EXECUTE $s$GRANT USAGE ON SEQUENCE $s$ || what || $s$ TO {role}$s$; END LOOP;
    """
    return lambda names: (
        f"DO $do$ DECLARE home pg_class; what text; BEGIN "
        f"SELECT * INTO home FROM pg_class WHERE oid = {literal_name(names.table)}::regclass; "
        f"EXECUTE $s$GRANT USAGE ON SCHEMA $s$ || home.relnamespace::regnamespace || $s$ TO {names.bare(role)}$s$; "
        f"{' '.join(sequences.split()).replace('{role}', names.bare(role)) if with_sequences else ''} END $do$"
    )


def _maintain(role: str) -> Rendering:
    return lambda names: (
        f"DO $do$ BEGIN IF current_setting('server_version_num')::int >= 170000 THEN "
        f"GRANT {MAINTAIN} ON TABLE {names.table} TO {names.bare(role)}; END IF; END $do$"
    )
