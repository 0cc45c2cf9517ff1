"""Events with what is known about them: as read from the log, and as applied but not yet written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from typing_extensions import TypeVar

from sa_eventsource.events.domain_event import DomainEvent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sa_eventsource.types import JsonValue

E_co = TypeVar("E_co", bound=DomainEvent, default=DomainEvent, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent(Generic[E_co]):
    """An event as it stands in the log.

    Attributes:
        event: What happened, in its present class.
        event_id: Its id.
        aggregate_type: Type name of the stream.
        aggregate_id: Id of the stream, as stored.
        version: Its place in the stream, from 1.
        event_type: The name it was stored under.
        event_version: The version it was stored with, before any upcasting.
        occurred_at: When it happened, in UTC: the time that the application gave.
        recorded_at: When it was written to the log, in UTC, by the database's clock.
        correlation_id: The business transaction it belongs to.
        causation_id: The event that caused it.
        metadata: Who, why, and whatever else was set.
        position: Its place in the whole log.
        part: Which of the events it is, from 0, that an upcaster makes of the stored one; 0 for all others.
        part_of: The id of the stored event, where this is not its first part, and so has an id of its own; else None.
    """

    event: E_co
    event_id: UUID
    aggregate_type: str
    aggregate_id: str
    version: int
    event_type: str
    event_version: int
    occurred_at: datetime
    recorded_at: datetime
    correlation_id: UUID | None
    causation_id: UUID | None
    metadata: Mapping[str, JsonValue]
    position: int
    part: int = 0
    part_of: UUID | None = None

    @property
    def stored_id(self) -> UUID:
        """The id of the stored event: its own, unless it is a later part of another one."""
        return self.event_id if self.part_of is None else self.part_of


@dataclass(slots=True, kw_only=True)
class PendingEvent:
    """An event that was applied and waits for the next flush.

    Attributes:
        event: What happened.
        payload: Its JSON text.
        event_id: Its id.
        version: Its place in the stream, from 1.
        occurred_at: When it happened, with a time zone.
        correlation_id: The business transaction it belongs to.
        causation_id: The event that caused it.
        metadata: Who, why, and whatever else was set.
        time_given: Whether the application said when it happened; a time that was filled in does not tell a repetition from another
            event.
        id_given: Whether the application said which id it has, which may be that of another event.
    """

    event: DomainEvent
    payload: str
    event_id: UUID
    version: int
    occurred_at: datetime
    correlation_id: UUID | None
    causation_id: UUID | None
    metadata: Mapping[str, JsonValue]
    time_given: bool
    id_given: bool
