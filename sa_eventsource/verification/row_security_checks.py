"""Does row security hide rows of the library's tables, where the declaration has none?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.mapping import row_security_faults
from sa_eventsource.store import database_of
from sa_eventsource.verification.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables


def check_row_security(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find tables whose rows somebody has hidden from some roles: what an application reads is then not what is in the log."""
    if not database_of(connection.dialect).is_server:
        return
    for table, fault in row_security_faults(connection, tables):
        advice = "those who read as such a role get another log. DROP POLICY, and ALTER TABLE ... DISABLE ROW LEVEL SECURITY"
        yield Finding("row security", table.name, f"{fault}; {advice}")
