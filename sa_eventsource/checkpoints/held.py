"""What keeps everybody from a checkpoint, so that nobody can note there that the follower waits: seen from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Numeric, Text, and_, cast, column, extract, func, literal_column, or_, select, table

from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables

_FOR_ALL = ("database", "configuration file", "command line", "environment variable", "override", "global")
"""Where a setting comes from that applies to others too."""


def held_by(connection: Connection, tables: EventSourceTables, names: Collection[str], *, seconds: float) -> str | None:
    """Say what keeps workers from the checkpoints of some names; None if nothing is seen that does.

    That is a transaction which has been open for a while and holds one of the rows, or the table; or a database that takes no
    writes. A standby takes none either, but its checkpoints are kept elsewhere.

    Args:
        connection: In a transaction.
        tables: The tables of the log.
        names: The names that the checkpoints are kept under.
        seconds: For how long one may be held without anybody wondering.
    """
    if not database_of(connection.dialect).is_server or connection.scalar(select(func.pg_is_in_recovery())):
        return None
    if _takes_no_writes(connection):
        return "the database takes no writes: default_transaction_read_only is on, for all"
    held = tables.projection_positions.alias("held")
    locks = table("pg_locks", *map(column, ("locktype", "mode", "granted", "transactionid", "relation", "database", "pid")))
    sessions = table("pg_stat_activity", *map(column, ("pid", "application_name", "xact_start")))
    prepared = table("pg_prepared_xacts", *map(column, ("transaction", "gid", "prepared")))
    holder: str = "held.xmax"  # system columns, which no table declares
    on_row = and_(locks.c.locktype == "transactionid", locks.c.transactionid == literal_column(holder))
    here: Any = select(literal_column("oid")).select_from(table("pg_database")).where(column("datname") == func.current_database())
    on_table = and_(
        locks.c.locktype == "relation",
        locks.c.mode == "ExclusiveLock",
        locks.c.relation == literal_column("held.tableoid"),
        locks.c.database == here.scalar_subquery(),
    )
    begun = func.coalesce(sessions.c.xact_start, prepared.c.prepared)
    age = cast(extract("epoch", func.clock_timestamp() - begun), Numeric)
    who = func.coalesce(
        "prepared transaction " + prepared.c.gid,
        "process " + cast(locks.c.pid, Text) + " (" + func.coalesce(func.nullif(sessions.c.application_name, ""), "unnamed") + ")",
    )
    holders = (
        held.join(locks, and_(locks.c.granted, or_(on_row, on_table)))
        .outerjoin(sessions, sessions.c.pid == locks.c.pid)
        .outerjoin(prepared, prepared.c.transaction == literal_column(holder))
    )
    longest = connection.execute(
        select(who, age)
        .select_from(holders)
        .where(held.c.projection_name.in_(names), age > seconds, locks.c.pid.is_distinct_from(func.pg_backend_pid()))
        .order_by(age.desc())
        .limit(1)
    ).one_or_none()
    return None if longest is None else f"{longest[0]} has held its checkpoint for {longest[1]:.0f} s, and keeps workers from it"


def _takes_no_writes(connection: Connection) -> bool:
    settings = table("pg_settings", column("name"), column("setting"), column("source"))
    source = select(settings.c.source).where(settings.c.name == "default_transaction_read_only", settings.c.setting == "on")
    return connection.scalar(source) in _FOR_ALL
