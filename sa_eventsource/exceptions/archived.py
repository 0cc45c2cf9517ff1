"""Streams that are archived, or cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc

from sa_eventsource.counting import counted
from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID


class StreamArchivedError(EventSourceError, sa_exc.InvalidRequestError):
    """An aggregate was to be loaded whose stream is archived: its events are not in the log.

    ``unarchive()`` brings them back; then load it again. Where the stream is compacted, its last state alone can be loaded, and
    that only as long as it is of use: ``compact()`` makes it again.

    Attributes:
        aggregate_type: The aggregate's stored type name.
        aggregate_id: Its id, as stored.
        version: The version at which the stream was closed.
        archive_id: The archive.
        place: Where the events are: the name of the table, or the path of the file.
        is_compacted: Whether its last state was kept.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self, aggregate_type: str, aggregate_id: str, *, version: int, archive_id: UUID, place: str, is_compacted: bool = False
    ) -> None:
        """Build the message from the place."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.version = version
        self.archive_id = archive_id
        self.place = place
        self.is_compacted = is_compacted
        remedy = "Bring it back with unarchive() or sa-eventsource unarchive, and load it again."
        if is_compacted:
            remedy = (
                "It is compacted: its last state can be loaded, as long as it was made by this code, and holds nothing of someone "
                "who is forgotten, or that this connection is not to see. compact() or sa-eventsource compact makes it again. "
                f"{remedy}"
            )
        super().__init__(
            f"{aggregate_type} {aggregate_id!r} is archived, with {counted(version, 'event')} in {place}, as archive {archive_id}. "
            f"{remedy}"
        )


class ArchiveError(EventSourceError, sa_exc.InvalidRequestError):
    """A stream cannot be archived now, or not be brought back. Nothing was changed; roll back, do what the reason says, try again.

    Attributes:
        aggregate_type: The aggregate's stored type name.
        aggregate_id: Its id, as stored.
        reason: Why not.
    """

    def __init__(self, aggregate_type: str, aggregate_id: str, reason: str) -> None:
        """Build the message from the stream and the reason."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.reason = reason
        super().__init__(f"{aggregate_type} {aggregate_id!r}: {reason}")


class ArchiveFileError(ArchiveError):
    """The file of an archive cannot be written, or is missing, altered or unreadable. Nothing was changed in the database.

    Attributes:
        path: The file, or the directory that it was to go into.
    """

    def __init__(self, aggregate_type: str, aggregate_id: str, path: Path, reason: str, *, what: str = "its file") -> None:
        """Build the message from stream, file and reason."""
        self.path = path
        super().__init__(aggregate_type, aggregate_id, f"{what} {path} {reason}")
