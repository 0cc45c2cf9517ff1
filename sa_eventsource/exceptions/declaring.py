"""Classes of the application that are declared wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc

from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from collections.abc import Iterable


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


class UnknownNameError(DeclarationError):
    """What was named, such as a read model or a subscription, is not there. Correct the name, or import what declares it.

    Attributes:
        name: What was given.
        known: The names that there are.
    """

    def __init__(self, message: str, name: str, known: Iterable[str]) -> None:
        """Take the message, which lists the names that there are."""
        self.name = name
        self.known = tuple(known)
        super().__init__(message)
