"""Classes of the application that are declared wrongly."""

from __future__ import annotations

from sqlalchemy import exc as sa_exc

from sa_eventsource.exceptions.base import EventSourceError


class DeclarationError(EventSourceError, sa_exc.ArgumentError):
    """A class of the application is declared wrongly. Raised while the module is imported; correct the declaration."""


class DuplicateEventTypeError(DeclarationError):
    """Two event classes claim one stored name and version.

    Attributes:
        event_type: The stored name.
        event_version: The version of it that both claim.
        existing: Qualified name of the class that has it.
        duplicate: Qualified name of the class that wanted it.
    """

    def __init__(self, event_type: str, event_version: int, *, existing: str, duplicate: str) -> None:
        """Build the message from the two claimants."""
        self.event_type = event_type
        self.event_version = event_version
        self.existing = existing
        self.duplicate = duplicate
        super().__init__(
            f"event type {event_type!r} version {event_version} is declared twice: by {existing} and by {duplicate}. "
            "Set __event_type__ to another name on one of them, or __event_version__ if one is an older shape of the other."
        )
