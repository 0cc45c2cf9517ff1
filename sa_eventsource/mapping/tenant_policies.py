"""Row security on the tables that tenants share: a transaction sees and writes the rows of the tenant that its setting names.

Forced, so that the owner of the tables is no exception. Without the setting, nobody sees a row. The worker's role may ask for the
rows of all tenants, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from sa_eventsource.mapping.database_roles import create_role
from sa_eventsource.mapping.schemas import regclass_name
from sa_eventsource.mapping.statements import TableNames, TableStatement

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

POLICY, POLICY_OF_WORKER = "sa_eventsource_tenant", "sa_eventsource_all_tenants"

_SETTING = "sa_eventsource.tenant"
_NOW = f"current_setting('{_SETTING}', true)"


def policy_statements(table: Table, worker: str) -> list[TableStatement]:
    """List the statements that put the policies on a table, or put them right again.

    Args:
        table: The table.
        worker: The role that may see all tenants; it is created unless it is there.
    """
    is_tenants = f"(tenant_id = {_NOW})"

    def of_worker(names: TableNames) -> str:
        return (
            f"CREATE POLICY {POLICY_OF_WORKER} ON {names.table} TO {names.bare(worker)} "
            f"USING ({_NOW} = '*') WITH CHECK ({_NOW} = '*')"
        )

    return [
        TableStatement(table, create_role(worker)),
        *(
            TableStatement(table, render)
            for render in (
                lambda names: f"DROP POLICY IF EXISTS {POLICY} ON {names.table}",
                lambda names: f"DROP POLICY IF EXISTS {POLICY_OF_WORKER} ON {names.table}",
                lambda names: f"CREATE POLICY {POLICY} ON {names.table} USING {is_tenants} WITH CHECK {is_tenants}",
                of_worker,
                lambda names: f"ALTER TABLE {names.table} ENABLE ROW LEVEL SECURITY",
                lambda names: f"ALTER TABLE {names.table} FORCE ROW LEVEL SECURITY",
            )
        ),
    ]


def policy_fault(connection: Connection, table: Table, worker: str) -> str | None:
    """Say what is wrong with the policies on a table that tenants share; None if nothing is.

    Args:
        connection: On PostgreSQL.
        table: The table. Where it is not there, its policies are missing.
        worker: The role that may see all tenants.
    """
    found = connection.execute(_FOUND, {"name": regclass_name(connection, table), "worker": worker}).one_or_none()
    if found is None:
        return "there is no such table"
    if found.others:
        return f"policy {', '.join(found.others)} lets rows of other tenants be seen or written, where it allows more than they do"
    if found.narrower:
        return f"policy {', '.join(found.narrower)} hides rows from the tenants whose they are"
    if not found.is_forced:
        return "row security is not enabled, or not forced"
    missing = POLICY if not found.is_guarded else POLICY_OF_WORKER if not found.has_worker else None
    return None if missing is None else f"policy {missing} is missing or is another one"


_FOUND = text(f"""
    SELECT relrowsecurity AND relforcerowsecurity AS is_forced,
        (
            SELECT array_agg(polname::text ORDER BY polname) FROM pg_policy
            WHERE polrelid = t.oid AND polpermissive AND polname NOT IN ('{POLICY}', '{POLICY_OF_WORKER}')
        ) AS others,
        (
            SELECT array_agg(polname::text ORDER BY polname) FROM pg_policy WHERE polrelid = t.oid AND NOT polpermissive
        ) AS narrower,
        EXISTS (
            SELECT FROM pg_policy WHERE polrelid = t.oid AND polname = '{POLICY}' AND polcmd = '*' AND polroles = '{{0}}'
                AND pg_get_expr(polqual, t.oid) = '((tenant_id)::text = current_setting(''{_SETTING}''::text, true))'
                AND pg_get_expr(polwithcheck, t.oid) = pg_get_expr(polqual, t.oid)
        ) AS is_guarded,
        EXISTS (
            SELECT FROM pg_policy WHERE polrelid = t.oid AND polname = '{POLICY_OF_WORKER}' AND polcmd = '*'
                AND polroles = ARRAY(SELECT oid FROM pg_roles WHERE rolname = :worker)
                AND pg_get_expr(polqual, t.oid) = '(current_setting(''{_SETTING}''::text, true) = ''*''::text)'
        ) AS has_worker
    FROM pg_class AS t WHERE t.oid = to_regclass(:name)
""")
