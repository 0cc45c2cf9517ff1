"""The tables that every base has: the log, rows and checkpoints of read models, parked events, and snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, Text, UniqueConstraint, Uuid, func, text

from sa_eventsource.mapping.column_types import DOCUMENT, MAX_NAME_LENGTH, UtcDateTime
from sa_eventsource.mapping.event_columns import EVENT_COLUMNS
from sa_eventsource.mapping.named_indexes import add_index
from sa_eventsource.mapping.partitions import PARTITION_BY

if TYPE_CHECKING:
    from sa_eventsource.mapping.tables import EventSourceOptions


def events_table(metadata: MetaData, options: EventSourceOptions, where: dict[str, Any]) -> Table:
    """Put the log on a metadata.

    Args:
        metadata: The application's metadata.
        options: The tables' names, and whether the log is partitioned.
        where: The schema, if they have one of their own.
    """
    is_partitioned = options.partitions is not None
    columns = [each.column(is_partitioned=is_partitioned) for each in EVENT_COLUMNS]
    place = UniqueConstraint("aggregate_type", "aggregate_id", "version")
    if not is_partitioned:
        return Table(options.events, metadata, *columns, place, UniqueConstraint("position"), **where)
    events = Table(options.events, metadata, *columns, place, postgresql_partition_by=PARTITION_BY, **where)
    add_index(events.c.position)
    return events


def followers_tables(metadata: MetaData, options: EventSourceOptions, where: dict[str, Any]) -> tuple[Table, Table, Table, Table]:
    """Put the others on a metadata: projections, snapshots, checkpoints, parked events. Arguments as for :func:`events_table`."""
    projections = Table(
        options.projections,
        metadata,
        Column("id", String(MAX_NAME_LENGTH), primary_key=True),
        Column("projection_name", String(MAX_NAME_LENGTH), primary_key=True),
        Column("data", DOCUMENT, nullable=False),
        Column("positions", DOCUMENT, nullable=True),
        Column("version", Integer, nullable=False),
        Column("created_at", UtcDateTime, nullable=False, server_default=func.current_timestamp()),
        Column("updated_at", UtcDateTime, nullable=False, server_default=func.current_timestamp()),
        **where,
    )
    add_index(projections.c.projection_name)
    if options.projections_gin:
        add_index(projections.c.data, postgresql_using="gin")
    snapshots = Table(
        options.snapshots,
        metadata,
        Column("aggregate_type", String(MAX_NAME_LENGTH), primary_key=True),
        Column("aggregate_id", String(MAX_NAME_LENGTH), primary_key=True),
        Column("version", Integer, nullable=False),
        Column("event_id", Uuid, nullable=True),  # null: of a release that did not keep it, and never read
        Column("state", DOCUMENT, nullable=False),
        Column("state_fingerprint", String(64), nullable=False),
        Column("occurred_at", UtcDateTime, nullable=False),
        Column("created_at", UtcDateTime, nullable=False, server_default=func.current_timestamp()),
        **where,
    )
    projection_positions = Table(
        options.projection_positions,
        metadata,
        Column("projection_name", String(MAX_NAME_LENGTH), primary_key=True),
        Column("last_processed_position", BigInteger, nullable=False, server_default=text("0")),
        Column("last_processed_at", UtcDateTime, nullable=True),
        Column("snapshot_cursor", String, nullable=True),
        Column("window_end", String, nullable=True),
        Column("cluster", String(32), nullable=True),
        Column("declaration", String(64), nullable=True),
        Column("status", String(32), nullable=False, server_default=text("'running'")),
        Column("failed_position", BigInteger, nullable=True),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        Column("retry_at", UtcDateTime, nullable=True),
        Column("error", Text, nullable=True),
        **where,
    )
    parked_events = Table(
        options.parked_events,
        metadata,
        Column("projection_name", String(MAX_NAME_LENGTH), primary_key=True),
        Column("position", BigInteger, primary_key=True, autoincrement=False),
        Column("event_id", Uuid, nullable=False),
        Column("aggregate_type", String(MAX_NAME_LENGTH), nullable=False),
        Column("aggregate_id", String(MAX_NAME_LENGTH), nullable=False),
        Column("error", Text, nullable=True),
        Column("attempts", Integer, nullable=True),  # null: never, as behind another, or by a release that did not count
        Column("parked_at", UtcDateTime, nullable=False, server_default=func.current_timestamp()),
        **where,
    )
    add_index(parked_events.c.projection_name, parked_events.c.aggregate_type, parked_events.c.aggregate_id)
    return projections, snapshots, projection_positions, parked_events
