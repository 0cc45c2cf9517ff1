"""What stands in the log in place of a stream that was archived."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID  # noqa: TC003 - Pydantic reads it

from sa_eventsource.events.domain_event import DomainEvent

ARCHIVED_TYPE = "sa_eventsource.StreamArchived"
"""The name that it is stored under, in every log: statements look for it."""


class StreamArchived(DomainEvent):
    """The events of a stream lie elsewhere. It has the id, version, position and times of the ``StreamClosed`` that it stands for.

    It is no event that happened: nobody applies it, and whoever takes all events, by their common base, does not take this one.

    Attributes:
        archive_id: The archive.
        place: Where the events are: the name of the table.
        reason: Why the stream was closed.
    """

    __event_type__: ClassVar[str] = ARCHIVED_TYPE

    _is_marker: ClassVar[bool] = True

    archive_id: UUID
    place: str
    reason: str = ""
