"""Stored events and snapshots that cannot be read, and values that could not be stored and read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


class EventPayloadError(EventSourceError, ValueError):
    """An event, its metadata or a snapshot holds a value that could not be stored and read back exactly.

    Raised before anything is written; the aggregate is as it was. Correct the value and apply the event again.

    Attributes:
        event_type: The stored name of the event.
        field: Path of the value, such as ``lines.0.price``; empty when the event as a whole is meant.
        reason: What is wrong with it.
    """

    def __init__(self, event_type: str, field: str, reason: str) -> None:
        """Build the message from the place and the reason."""
        self.event_type = event_type
        self.field = field
        self.reason = reason
        place = f"{event_type}.{field}" if field else event_type
        super().__init__(f"{place}: {reason}")


class UnknownEventTypeError(EventSourceError, LookupError):
    """The log holds an event whose type no class declares.

    Import the module that declares it, or name the old type in ``__former_types__`` of the class that replaced it.

    Attributes:
        event_type: The stored name.
        event_version: The stored version.
        event_id: The event, where it is known.
    """

    def __init__(self, event_type: str, event_version: int, event_id: UUID | None = None) -> None:
        """Build the message from the stored identity."""
        self.event_type = event_type
        self.event_version = event_version
        self.event_id = event_id
        which = f"event {event_id}" if event_id is not None else "an event"
        super().__init__(
            f"{which} has type {event_type!r} (version {event_version}), which no DomainEvent class declares. Import the module "
            "that declares it, or list the name in __former_types__ of the class that replaced it."
        )


class EventDecodeError(EventSourceError, ValueError):
    """A stored payload does not fit its event class.

    The event is unchanged in the log. Write an ``@upcast`` function from its version, or correct the class.

    Attributes:
        event_type: The stored name.
        event_version: The stored version.
        event_id: The event, where it is known.
        fields: Paths of the values that do not fit.
        reason: What is wrong.
    """

    def __init__(
        self, event_type: str, event_version: int, reason: str, *, fields: Sequence[str] = (), event_id: UUID | None = None
    ) -> None:
        """Build the message from the stored identity and the reason."""
        self.event_type = event_type
        self.event_version = event_version
        self.event_id = event_id
        self.fields = tuple(fields)
        self.reason = reason
        which = f"event {event_id}" if event_id is not None else "an event"
        super().__init__(f"{which} of type {event_type!r} version {event_version} cannot be read: {reason}")


class SnapshotError(EventSourceError, ValueError):
    """An aggregate's state does not survive being stored as a snapshot.

    No session raises it: a flush leaves the snapshot out and gives a :class:`SnapshotWarning` of the same text.

    Attributes:
        aggregate_class: Name of the aggregate's class.
        reason: What is wrong.
    """

    def __init__(self, aggregate_class: str, reason: str) -> None:
        """Build the message from the reason."""
        self.aggregate_class = aggregate_class
        self.reason = reason
        super().__init__(f"the state of {aggregate_class} cannot be stored as a snapshot: {reason}")


class SnapshotWarning(UserWarning):
    """A snapshot is not written, or none of a class are used; its aggregates are read from their events, right but slower.

    Correct the annotation of the field, or what the message names. Python shows it like any warning; a test suite that turns
    warnings into errors finds it.

    Attributes:
        aggregate_class: Name of the aggregate's class.
        reason: What is in the way.
    """

    def __init__(self, aggregate_class: str, reason: str) -> None:
        """Build the message from the reason."""
        self.aggregate_class = aggregate_class
        self.reason = reason
        super().__init__(f"no snapshot of {aggregate_class}: {reason}")


class CorruptStreamError(EventSourceError):
    """A stream's versions do not follow one another: events are missing or were changed by hand.

    Attributes:
        aggregate_type: The aggregate's stored type name.
        aggregate_id: Its id, as stored.
        expected_version: The version that should have come next.
        found_version: The version that came.
    """

    def __init__(self, aggregate_type: str, aggregate_id: str, *, expected_version: int, found_version: int) -> None:
        """Build the message from the gap."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.expected_version = expected_version
        self.found_version = found_version
        super().__init__(
            f"{aggregate_type} {aggregate_id!r} has version {found_version} where version {expected_version} should follow: "
            "events were removed or changed outside this library. Restore them from a backup before loading the aggregate."
        )
