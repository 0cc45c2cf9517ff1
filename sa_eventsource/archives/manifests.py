"""Manifests: what is known of each archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import check_async_session, check_session, present_session, tables_of_base
from sa_eventsource.store import autoflush

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row, Table
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    from sa_eventsource.archives.moving import StreamToMove
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.types import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One archive: a stream that was taken out of the log.

    Attributes:
        archive_id: Its id.
        aggregate_type: The stream's type name.
        aggregate_id: Its id, as stored.
        events: How many events it has; the version of the last.
        first_position: The position of the first event.
        last_position: The position of the last one.
        sha256: The hash of the events, in hexadecimal.
        place: Where they are: the name of the table, or the path of the file.
        reason: Why it was archived.
        metadata: Who did it, and whatever else the event context said then.
        archived_at: When, in UTC.
        is_compacted: Whether the aggregate is still loaded, in its last state.
        returned_at: When it was brought back; None if it was not.
        models_to_rebuild: The read models that take such events and cannot be rebuilt in part, as they have ``@handles`` methods:
            rebuild them as a whole.
    """

    archive_id: UUID
    aggregate_type: str
    aggregate_id: str
    events: int
    first_position: int
    last_position: int
    sha256: str
    place: str
    reason: str
    metadata: Mapping[str, JsonValue]
    archived_at: datetime
    is_compacted: bool = False
    returned_at: datetime | None = None
    models_to_rebuild: tuple[str, ...] = ()

    @property
    def file(self) -> Path | None:
        """The file that the events are in; None where they are in a table. When they are back in the log, it can be deleted."""
        return file_of(self.place)


def archived_streams(session: Session | scoped_session[Session], *, base: Any, returned: bool = False) -> list[Archive]:
    """List the archived streams of a log, the oldest archive first, in the session's transaction.

    Args:
        session: The session.
        base: The declarative base, or an aggregate's class.
        returned: Whether to list those too whose events are back in the log.

    Raises:
        DeclarationError: The base has no archives.
    """
    check_session("archived_streams()", session, instead="async_archived_streams")
    asking = present_session(session)
    tables = tables_of_base("archived_streams()", base)
    table, *_ = require_archives(tables)
    autoflush(asking)
    found = select(table).order_by(table.c.archived_at, table.c.archive_id)
    if not returned:
        found = found.where(table.c.returned_at.is_(None))
    rows = asking.connection(bind_arguments=tables.bind_arguments).execute(found)
    return [archive_of(row) for row in rows]


async def async_archived_streams(session: AsyncSession, *, base: Any, returned: bool = False) -> list[Archive]:
    """List the archived streams of a log. As :func:`archived_streams`."""
    check_async_session("async_archived_streams()", session, instead="archived_streams")
    return await session.run_sync(archived_streams, base=base, returned=returned)


def archive_of(row: Row[Any], models_to_rebuild: tuple[str, ...] = ()) -> Archive:
    """Make an archive of its row."""
    return Archive(
        archive_id=row.archive_id,
        aggregate_type=row.aggregate_type,
        aggregate_id=row.aggregate_id,
        events=row.events,
        first_position=row.first_position,
        last_position=row.last_position,
        sha256=row.sha256.hex(),
        place=row.place,
        reason=row.reason,
        metadata=row.metadata or {},
        archived_at=row.archived_at,
        is_compacted=row.is_compacted,
        returned_at=row.returned_at,
        models_to_rebuild=models_to_rebuild,
    )


def manifest_of(stream: StreamToMove) -> Row[Any] | None:
    """Read the manifest of a stream that is archived now; None if it is not.

    Raises:
        ArchiveError: It has several.
    """
    archives = stream.archives
    found = select(archives).where(*stream.of_stream(archives), archives.c.returned_at.is_(None))
    rows = stream.connection.execute(found).all()
    if len(rows) > 1:
        raise stream.error(f"it has {len(rows)} manifests in {archives.name}. Run sa-eventsource verify")
    return rows[0] if rows else None


def file_of(place: str) -> Path | None:
    """Give the file that a manifest names as the place of its events; None if it names a table."""
    path = Path(place)
    return path if path.is_absolute() else None


def require_archives(tables: EventSourceTables) -> tuple[Table, Table, Table]:
    """Get the tables of manifests, of archived events, and of the ids of events in files.

    Raises:
        DeclarationError: The base has none.
    """
    if tables.archives is None or tables.archived_events is None or tables.archived_event_ids is None:
        raise DeclarationError(
            f"the base of the log {tables.events.name!r} has no archives. On the declarative base, write "
            '__eventsource__ = EventSourceOptions(archives="archives"), and migrate'
        )
    return tables.archives, tables.archived_events, tables.archived_event_ids
