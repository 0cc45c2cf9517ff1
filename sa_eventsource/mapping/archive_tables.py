"""The tables of archived streams: a manifest of each archive, their events, and the ids of events that lie in files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, String, Table, Text, UniqueConstraint, Uuid, false

from sa_eventsource.mapping.column_types import DOCUMENT, MAX_NAME_LENGTH, UtcDateTime
from sa_eventsource.mapping.event_columns import EVENT_COLUMNS
from sa_eventsource.mapping.named_indexes import add_index

if TYPE_CHECKING:
    from sqlalchemy import MetaData

_ARCHIVES = "sa_eventsource.archives"


def archives_table(name: str, metadata: MetaData, **where: Any) -> Table:
    """Put the table of manifests on a metadata: a row for each archive, which stays when its events are brought back.

    Args:
        name: Its name.
        metadata: The application's metadata.
        **where: The schema, if it has one of its own.
    """
    # sealed_with: of events in a file, the ids of the keys that their personal data is sealed with.
    # is_compacted: the aggregate is still loaded, in its last state.
    table = Table(
        name,
        metadata,
        Column("archive_id", Uuid, primary_key=True),
        Column("aggregate_type", String(MAX_NAME_LENGTH), nullable=False),
        Column("aggregate_id", String(MAX_NAME_LENGTH), nullable=False),
        Column("events", Integer, nullable=False),
        Column("first_position", BigInteger, nullable=False),
        Column("last_position", BigInteger, nullable=False),
        Column("sha256", LargeBinary, nullable=False),
        Column("place", Text, nullable=False),
        Column("sealed_with", DOCUMENT, nullable=True),
        Column("is_compacted", Boolean, nullable=False, server_default=false()),
        Column("cluster", String(32), nullable=True),
        Column("reason", Text, nullable=False),
        Column("metadata", DOCUMENT, nullable=True),
        Column("correlation_id", Uuid, nullable=True),
        Column("causation_id", Uuid, nullable=True),
        Column("archived_at", UtcDateTime, nullable=False),
        Column("return_reason", Text, nullable=True),
        Column("return_metadata", DOCUMENT, nullable=True),
        Column("returned_at", UtcDateTime, nullable=True),
        **where,
    )
    add_index(table.c.aggregate_type, table.c.aggregate_id)
    return table


def archived_events_table(name: str, metadata: MetaData, **where: Any) -> Table:
    """Put the table of archived events on a metadata: the log's columns, each with the value that the log had. Arguments as above.

    It has no index of its own but those that identify an event and its place.
    """
    columns = [
        Column(
            each.name,
            each.kind.type,
            primary_key=each.name == "event_id",
            autoincrement=False,
            nullable=each.is_nullable,
            server_default=None if each.default is None else each.default(),
        )
        for each in EVENT_COLUMNS
    ]
    place = UniqueConstraint("aggregate_type", "aggregate_id", "version")
    return Table(name, metadata, *columns, place, UniqueConstraint("position"), **where)


def archived_event_ids_table(name: str, metadata: MetaData, **where: Any) -> Table:
    """Put the table of ids on a metadata: of an event that lies in a file, nothing else is in the database. Arguments as above."""
    return Table(
        name,
        metadata,
        Column("event_id", Uuid, primary_key=True),
        Column("archive_id", Uuid, nullable=False),
        Column("version", Integer, nullable=False),
        **where,
    )


def let_be_archived(events: Table, archives: Table) -> None:
    """Note that streams of a log may be archived: statements that begin a stream look whether there is one."""
    events.info[_ARCHIVES] = archives.key  # its name: migrations write the info out


def may_be_archived(events: Table) -> bool:
    """Check whether streams of a log may be archived."""
    return _ARCHIVES in events.info


def archives_of(events: Table) -> Table:
    """Get the manifests of a log whose streams may be archived."""
    return events.metadata.tables[events.info[_ARCHIVES]]
