"""What the database knows of archived streams: the marker in their place, the ids of events in files; and the whole log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import select, union_all

from sa_eventsource.events import ARCHIVED_TYPE
from sa_eventsource.exceptions import EventIdConflictError, StreamArchivedError
from sa_eventsource.mapping import EVENT_COLUMNS, archives_of, may_be_archived
from sa_eventsource.store.databases import IDS_AT_ONCE, database_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.store.append import StreamAppend


def without_archived(events: Table) -> list[ColumnElement[bool]]:
    """Leave out the markers of archived streams; no condition where streams cannot be archived."""
    return [events.c.event_type != ARCHIVED_TYPE] if may_be_archived(events) else []


@dataclass(frozen=True, slots=True)
class Marker:
    """What stands in the log in the place of an archived stream.

    Attributes:
        aggregate_type: The stream's type name.
        aggregate_id: Its id as stored.
        version: The version of its last event.
        archive_id: The archive.
        place: Where the events are.
        reason: Why the stream was closed.
    """

    aggregate_type: str
    aggregate_id: str
    version: int
    archive_id: UUID
    place: str
    reason: str

    @classmethod
    def read(cls, aggregate_type: str, aggregate_id: str, version: int, payload: Any) -> Marker:
        """Read it from its version and payload."""
        return cls(aggregate_type, aggregate_id, version, UUID(payload["archive_id"]), payload["place"], payload.get("reason", ""))

    def error(self, *, is_compacted: bool) -> StreamArchivedError:
        """Make the error for whoever would load the stream."""
        return StreamArchivedError(
            self.aggregate_type,
            self.aggregate_id,
            version=self.version,
            archive_id=self.archive_id,
            place=self.place,
            is_compacted=is_compacted,
        )


def compacted_among(
    connection: Connection, events: Table, markers: Sequence[Marker], *, options: Mapping[str, Any] | None = None
) -> set[UUID]:
    """Ask which of some streams are compacted, by the ids of their archives. *options* are those of the statement behind it."""
    archives = archives_of(events)
    which = archives.c.archive_id.in_([each.archive_id for each in markers])
    found = select(archives.c.archive_id).where(which, archives.c.is_compacted)
    return set(connection.scalars(found, execution_options=options or {}))


def has_returned(connection: Connection, events: Table, marker: Marker, *, options: Mapping[str, Any] | None = None) -> bool:
    """Ask whether a stream whose marker was read has been brought back since. *options* as above."""
    archives = archives_of(events)
    found = select(archives.c.returned_at).where(archives.c.archive_id == marker.archive_id)
    return connection.scalar(found, execution_options=options or {}) is not None


def refuse_archived(connection: Connection, events: Table, aggregate_type: str, aggregate_id: str) -> None:
    """Refuse a stream that is archived, where nothing of it was found.

    Raises:
        StreamArchivedError: It is.
    """
    if not may_be_archived(events):
        return
    marker = select(events.c.version, events.c.event_data).where(
        events.c.aggregate_type == aggregate_type, events.c.aggregate_id == aggregate_id, events.c.event_type == ARCHIVED_TYPE
    )
    row = connection.execute(marker).one_or_none()
    if row is not None:
        found = Marker.read(aggregate_type, aggregate_id, row.version, row.event_data)
        raise found.error(is_compacted=found.archive_id in compacted_among(connection, events, [found]))


def whole_log(tables: EventSourceTables) -> Any:
    """Give a table or subquery of all events that the database holds, archived or not; its columns are those of the log.

    Events in files are not among them: :func:`taken_in_file` knows their ids.
    """
    events, archived = tables.events, tables.archived_events
    if archived is None:
        return events
    names = [each.name for each in EVENT_COLUMNS]
    present = select(*(events.c[name] for name in names)).where(*without_archived(events))
    return union_all(present, select(*(archived.c[name] for name in names))).subquery("whole_log")


def taken_in_file(
    connection: Connection, tables: EventSourceTables, streams: Sequence[StreamAppend]
) -> EventIdConflictError | None:
    """Find an event with the id of one that lies in a file, at another place. What else it has is not known here."""
    archives, ids = tables.archives, tables.archived_event_ids
    if archives is None or ids is None:
        return None
    given = {event.event_id: (stream, event.version) for stream in streams for event in stream.events}
    found = select(ids, archives.c.aggregate_type, archives.c.aggregate_id).join_from(
        ids, archives, ids.c.archive_id == archives.c.archive_id
    )
    which = list(given)
    for start in range(0, len(which), IDS_AT_ONCE):
        for row in connection.execute(found.where(ids.c.event_id.in_(which[start : start + IDS_AT_ONCE]))).all():
            stream, version = given[row.event_id]
            ours = {"aggregate_type": stream.aggregate_type, "aggregate_id": stream.aggregate_id, "version": version}
            theirs = {name: getattr(row, name) for name in ours}
            differences = [name for name in ours if ours[name] != theirs[name]]
            if differences:
                return EventIdConflictError(row.event_id, **theirs, differences=differences)
    return None


def one_at_a_time(connection: Connection, tables: EventSourceTables) -> None:
    """Wait for all who archive streams, bring them back, forget someone or anonymise, and hold them until the transaction ends.

    What comes back has the transaction ids that it had. So none of them can tell from ids what another one has moved or rewritten
    meanwhile, and each has to call this before it reads anything. It takes no right on any table. Where streams cannot be archived,
    nobody is waited for.
    """
    if tables.archives is not None:
        database_of(connection.dialect).lock_stream(connection, tables.archives, "sa_eventsource.archives", "")
