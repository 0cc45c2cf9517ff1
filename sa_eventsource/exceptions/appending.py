"""Events that cannot be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import exc as orm_exc

from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


class ConcurrencyError(EventSourceError, orm_exc.StaleDataError):
    """Another transaction has appended to the stream since it was loaded.

    Nothing of the flush was written. Roll back, load the aggregate again and decide again; ``retry_on_conflict`` does that.

    Attributes:
        aggregate_type: The aggregate's stored type name.
        aggregate_id: Its id, as stored.
        expected_version: The version the writer had seen; 0 for a new stream.
        actual_version: The version found, or None where the transaction's isolation level hides the winner from the loser.
    """

    def __init__(self, aggregate_type: str, aggregate_id: str, *, expected_version: int, actual_version: int | None = None) -> None:
        """Build the message from the two versions."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.expected_version = expected_version
        self.actual_version = actual_version
        found = "has moved on" if actual_version is None else f"is at version {actual_version}"
        super().__init__(
            f"{aggregate_type} {aggregate_id!r} {found}, but the events were made for version {expected_version}. "
            "Roll back, load it again and retry (see retry_on_conflict)."
        )


class StreamClosedError(EventSourceError, sa_exc.InvalidRequestError):
    """An event was applied to a closed stream, or appended to it: its last event is ``StreamClosed``.

    Nothing was written. Whoever lost a race against the one who closed the stream gets this error too, and no ``ConcurrencyError``:
    running the same again has the same end, so ``retry_on_conflict`` does not. Roll back, and use another aggregate.

    Attributes:
        aggregate_type: The aggregate's stored type name.
        aggregate_id: Its id, as stored.
        version: The version at which the stream was closed.
        reason: What was given as the reason.
    """

    def __init__(self, aggregate_type: str, aggregate_id: str, *, version: int, reason: str) -> None:
        """Build the message from the place and the reason."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.version = version
        self.reason = reason
        because = f" ({reason})" if reason else ""
        super().__init__(
            f"{aggregate_type} {aggregate_id!r} was closed at version {version}{because} and takes no further events. Roll back; "
            "what is still to happen belongs to another aggregate."
        )


class DuplicateAggregateError(EventSourceError, sa_exc.InvalidRequestError):
    """One transaction has events of two origins for one place in a stream. They were not written, and no other writer was involved.

    Either two instances of one aggregate have new events: get the instance that the session has, with ``session.get()``, and apply
    the events to that one; or give the new aggregate an id of its own. Or ``append()`` was given a version after which the
    transaction itself has written already: give the version that its last append returned, or that the instance in the session
    has. Running the same again has the same end, so ``retry_on_conflict`` does not.

    Attributes:
        aggregate_type: The aggregate's stored type name.
        aggregate_id: Its id, as stored.
        expected_version: The version after which events were to be appended; None for two instances.
    """

    def __init__(self, aggregate_type: str, aggregate_id: str, *, expected_version: int | None = None) -> None:
        """Build the message from the aggregate."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.expected_version = expected_version
        if expected_version is None:
            message = (
                f"two instances of {aggregate_type} {aggregate_id!r} have new events in one transaction, and nothing was written. "
                "Apply the events to one instance, the one that session.get() gives, or give the other an id of its own."
            )
        else:
            message = (
                f"events cannot follow version {expected_version} of {aggregate_type} {aggregate_id!r}: the same transaction has "
                "written there before. Give append() the version that the last append returned, or that of the session's instance."
            )
        super().__init__(message)


class AutocommitError(EventSourceError, sa_exc.InvalidRequestError):
    """Events were to be written, or an aggregate locked, on a connection in autocommit mode.

    There a commit that fails leaves a part of its work behind, and a lock ends at once. Nothing was written. Use an engine or a
    connection without ``isolation_level="AUTOCOMMIT"`` for sessions that write.

    Attributes:
        url: The database, without the password.
    """

    def __init__(self, url: str) -> None:
        """Build the message from the address."""
        self.url = url
        super().__init__(
            f"the connection to {url} is in autocommit mode: events and the rows that belong to them would not be written together "
            'or not at all. Leave isolation_level="AUTOCOMMIT" off the engine or connection of sessions that write.'
        )


class EventAlreadyAppendedError(EventSourceError, sa_exc.InvalidRequestError):
    """Every event of a stream in this flush is already stored, with the same id, place and content.

    The work was done by an earlier transaction: roll back and carry on. Nothing was written this time.

    Attributes:
        event_ids: The events concerned.
        aggregate_type: The aggregate's stored type name.
        aggregate_id: Its id, as stored.
        others: Type and id of the other streams in the flush, whose events are new and were not written either.
    """

    def __init__(
        self, event_ids: Sequence[UUID], aggregate_type: str, aggregate_id: str, *, others: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Build the message from the events."""
        self.others = tuple(others)
        self.event_ids = tuple(event_ids)
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        ids = ", ".join(str(event_id) for event_id in event_ids)
        advice = "An earlier transaction did this work; roll back and carry on."
        if others:
            named = ", ".join(f"{other_type} {other_id!r}" for other_type, other_id in others)
            advice = f"An earlier transaction wrote them, but the events of {named} are new: roll back, and do that part again."
        super().__init__(f"already appended to {aggregate_type} {aggregate_id!r}: {ids}. {advice}")


class EventIdConflictError(EventSourceError, sa_exc.InvalidRequestError):
    """An event id is stored already, with other content or at another place, or was given to two events of one transaction.

    Nothing was written. Use a new id.

    Attributes:
        event_id: The id.
        aggregate_type: Type of the stream that holds it.
        aggregate_id: Id of the stream that holds it.
        version: Its version there.
        differences: Names of the columns that differ.
        is_stored: Whether that event is in the log; otherwise it was to be written in the same transaction as the other one.
    """

    def __init__(  # noqa: PLR0913 - an error carries what it is about
        self,
        event_id: UUID,
        *,
        aggregate_type: str,
        aggregate_id: str,
        version: int,
        differences: Sequence[str],
        is_stored: bool = True,
    ) -> None:
        """Build the message from the event that has the id."""
        self.event_id = event_id
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.version = version
        self.differences = tuple(differences)
        self.is_stored = is_stored
        found = "is already stored as" if is_stored else "was given to two events of one transaction, and so to"
        other = (
            f", with another {', '.join(differences)}. Give the new event"
            if is_stored
            else ". Nothing was written; give each event"
        )
        super().__init__(
            f"event id {event_id} {found} version {version} of {aggregate_type} {aggregate_id!r}{other} an id of its own."
        )


class ImmutableEventError(EventSourceError, sa_exc.InvalidRequestError):
    """An attempt to change or delete history: a stored event, or an aggregate as a whole.

    Attributes:
        subject: What was to be changed.
    """

    def __init__(self, subject: str, advice: str) -> None:
        """Build the message from the subject and the advice."""
        self.subject = subject
        super().__init__(f"{subject}: events are immutable. {advice}")


class UnitOfWorkBypassError(EventSourceError, sa_exc.InvalidRequestError):
    """An operation would have changed aggregates or events, or locked them, without the unit of work.

    Attributes:
        operation: What was tried.
    """

    def __init__(
        self,
        operation: str,
        advice: str = "Load the aggregates, call apply_event() on each and commit; "
        "EventSourcedRepository.append() appends without loading.",
    ) -> None:
        """Build the message from the operation."""
        self.operation = operation
        super().__init__(f"{operation} bypasses the unit of work: no event would be written and no version checked. {advice}")
