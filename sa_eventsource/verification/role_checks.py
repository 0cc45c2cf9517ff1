"""May the roles of the application do what they are to, and nothing else?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.roles import faults_of_roles
from sa_eventsource.verification.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables


def check_roles(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find rights that roles have beyond those that are declared; those that they lack are warnings."""
    if tables.options.roles is not None:
        for fault in faults_of_roles(connection, tables):
            yield Finding("roles", fault.role, fault.message, is_warning=fault.is_lack)
