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


class AlteredTreeError(ProofError):
    """A worker adds nothing to the stored Merkle tree, and signs nothing: it is not the tree that was signed before.

    Somebody has cut or altered it, or an older state of the database was restored. ``sa-eventsource verify --proofs``, with a head
    that was kept elsewhere, says what became of the log. If the older state was restored on purpose, start the workers again.

    Attributes:
        what: The head at which it shows.
        reason: What is wrong with it.
        tree_size: How many events the stored tree has.
        seen_size: How many events a head covers that this process has signed, or added to; None where it has not yet.
    """

    def __init__(self, what: str, reason: str, *, tree_size: int, seen_size: int | None) -> None:
        """Build the message from head and reason."""
        self.tree_size = tree_size
        self.seen_size = seen_size
        super().__init__(what, f"{reason}. Nothing was put into the tree. Run sa-eventsource verify --proofs --head FILE")


class RewritingError(ProofError):
    """An event that was to be rewritten is stored otherwise than it was to be: something in the database has changed more, or less.

    Roll the transaction back. Look for triggers and rules on the log that are not the library's (``sa-eventsource verify``).

    Attributes:
        event_id: The event.
        what: The event, for people.
        reason: What is wrong.
    """

    def __init__(self, event_id: UUID) -> None:
        """Build the message from the event."""
        self.event_id = event_id
        super().__init__(
            f"the rewriting of event {event_id}",
            "it is stored otherwise than it was to be: a trigger or a rule of the database has changed more, or less. Roll back, "
            "and look for what is not the library's on the log: sa-eventsource verify",
        )


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
