"""Whether a log's events come here by replication.

An event may then be on its way that is not here yet. And one that came by a subscription has the transaction id of its origin,
unless that column was not published: whoever follows by transaction ids would skip it where the id is in this cluster's past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import column, exists, func, or_, select, table

from sa_eventsource.mapping import regclass_name
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.mapping import EventSourceTables

_subscribed = table("pg_subscription_rel", column("srrelid"))
_inherits = table("pg_inherits", column("inhrelid"), column("inhparent"))


def is_subscribed(connection: Connection, tables: EventSourceTables) -> ColumnElement[bool]:
    """Check, on PostgreSQL, whether the events come by logical replication (``CREATE SUBSCRIPTION``).

    Those of a partitioned log come to its partitions, unless they are published as those of one table.
    """
    events: Any = func.to_regclass(regclass_name(connection, tables.events))
    partitions = select(_inherits.c.inhrelid).where(_inherits.c.inhparent == events)
    comes_here = or_(_subscribed.c.srrelid == events, _subscribed.c.srrelid.in_(partitions))
    return exists().select_from(_subscribed).where(comes_here)


def is_replicated(connection: Connection, tables: EventSourceTables) -> bool:
    """Check whether events come here from another server: to a physical standby, or by a subscription."""
    if not database_of(connection.dialect).is_server:
        return False
    return bool(connection.scalar(select(or_(func.pg_is_in_recovery(), is_subscribed(connection, tables)))))
