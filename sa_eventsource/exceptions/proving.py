"""Proofs of a log that cannot be made, or do not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from uuid import UUID


class ProofError(EventSourceError):
    """A proof or a head does not hold, or is none.

    Do not trust what it is about. Get the proof again, against a head that you trust; if it still does not hold, the log was
    altered.

    Attributes:
        what: The proof or the head.
        reason: What is wrong with it.
    """

    def __init__(self, what: str, reason: str) -> None:
        """Build the message from both."""
        self.what = what
        self.reason = reason
        super().__init__(f"{what} does not hold: {reason}")


class UncoveredEventError(EventSourceError):
    """There is no proof of an event: no head covers it.

    It may be too new: a worker puts it into the tree within seconds. Against an earlier head, choose a later one.

    Attributes:
        event_id: The event.
        reason: Why.
    """

    def __init__(self, event_id: UUID, reason: str) -> None:
        """Build the message from both."""
        self.event_id = event_id
        self.reason = reason
        super().__init__(f"event {event_id} cannot be proven: {reason}")


class SigningKeyError(EventSourceError):
    """The key that signs heads, or one that checks them, is missing or is none. No head was made.

    Correct the configuration; events go into the tree then.

    Attributes:
        reason: What is wrong.
    """

    def __init__(self, reason: str) -> None:
        """Build the message from the reason."""
        self.reason = reason
        super().__init__(f"the heads of the log cannot be signed or checked: {reason}")
