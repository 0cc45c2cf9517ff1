"""Does row security keep tenants apart on each table that they share?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.mapping import is_shared_by_tenants, policy_fault, tenants_worker
from sa_eventsource.verification.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables


def check_tenants(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find tables whose policies are missing or changed, or alongside which others let more rows be seen."""
    worker = tenants_worker(tables.options)
    if worker is None:
        return
    for table in tables.events.metadata.sorted_tables:
        fault = policy_fault(connection, table, worker) if is_shared_by_tenants(table) else None
        if fault is not None:
            advice = "tenants may see each other's rows. Put it right by a migration: op.create_tenant_policies()"
            yield Finding("tenants", table.name, f"{fault}; {advice}")
