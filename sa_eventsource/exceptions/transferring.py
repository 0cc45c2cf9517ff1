"""Logs that cannot be written to a file, and files that cannot be read into a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from uuid import UUID


class LogImportError(EventSourceError, ValueError):
    """A row of an exported log does not fit: into the format, or into the log that it is read into.

    Roll back: earlier rows may have been inserted in the transaction. Correct the file, or import into another log.

    Attributes:
        line: Number of the line, from 1, where the header is line 1; of a Parquet file, of the row, from 1. 0 when the file as a
            whole is meant.
        field: The field that is wrong, for a value inside it the path, such as ``event_data.lines.0.note``; empty when the row as
            a whole is meant.
        reason: What is wrong.
        unit: What ``line`` counts.
    """

    def __init__(self, line: int, field: str, reason: str, *, unit: Literal["line", "row"] = "line") -> None:
        """Build the message from the place and the reason."""
        self.line = line
        self.field = field
        self.reason = reason
        self.unit = unit
        place = f"{unit} {line}" if line else "the file"
        super().__init__(f"{place}, {field}: {reason}" if field else f"{place}: {reason}")


class LogExportError(EventSourceError, ValueError):
    """A stored event cannot be exported: what SQLite keeps as its payload or metadata is not JSON.

    The event was stored outside this library; correct or remove it in a copy of the file, where the trigger is dropped.

    Attributes:
        event_id: The event.
        position: Its place in the log.
        field: ``event_data`` or ``metadata``.
    """

    def __init__(self, event_id: UUID, position: int, field: str) -> None:
        """Build the message from the place."""
        self.event_id = event_id
        self.position = position
        self.field = field
        super().__init__(
            f"event {event_id} at position {position}: its {field} is not JSON, so it cannot be exported. It was stored outside "
            "this library; correct it first."
        )
