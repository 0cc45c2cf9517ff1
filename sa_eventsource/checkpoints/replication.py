"""Whether a log's events come here by replication: then an event may be on its way that is not here yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from sa_eventsource.mapping import regclass_name

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables

_IS_REPLICATED = text("SELECT pg_is_in_recovery() OR EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = to_regclass(:events))")


def is_replicated(connection: Connection, tables: EventSourceTables) -> bool:
    """Check whether events come here from another server: to a physical standby, or by a subscription (``CREATE SUBSCRIPTION``)."""
    if connection.dialect.name != "postgresql":
        return False
    return bool(connection.scalar(_IS_REPLICATED, {"events": regclass_name(connection, tables.events)}))
