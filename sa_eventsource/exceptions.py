"""Every error that sa_eventsource raises on purpose.

All share :class:`EventSourceError`. Each carries what it knows as fields, builds its own message from them, and says how to
go on. Where a SQLAlchemy caller already catches an error for the same situation, ours is a subclass of that one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import exc as orm_exc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID


class EventSourceError(Exception):
    """Base of all errors of this library. Catch it to catch them all."""


# -- declarations ------------------------------------------------------------------------------------------------------


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


# -- payloads ----------------------------------------------------------------------------------------------------------


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


# -- aggregates --------------------------------------------------------------------------------------------------------


class UnhandledEventError(EventSourceError, TypeError):
    """An aggregate has no ``@applies`` method for an event.

    Attributes:
        aggregate_class: Name of the aggregate's class.
        event_class: Name of the event's class.
    """

    def __init__(self, aggregate_class: str, event_class: str) -> None:
        """Build the message from the two classes."""
        self.aggregate_class = aggregate_class
        self.event_class = event_class
        super().__init__(
            f"{aggregate_class} has no @applies({event_class}) method. Write one, or list {event_class} in "
            f"{aggregate_class}.__ignored_events__ if it changes no state."
        )


class AggregateIdError(EventSourceError, ValueError):
    """A value cannot be an aggregate's id.

    Attributes:
        aggregate_type: The aggregate's stored type name.
        value: The value refused.
        reason: Why.
    """

    def __init__(self, aggregate_type: str, value: object, reason: str) -> None:
        """Build the message from the value and the reason."""
        self.aggregate_type = aggregate_type
        self.value = value
        self.reason = reason
        super().__init__(f"{value!r} cannot be the id of a {aggregate_type}: {reason}")


class AggregateStateError(EventSourceError, AttributeError):
    """An attribute of an aggregate was set where its value would be lost at the next load.

    That is a state field outside ``@applies`` methods, or an attribute that is no state field within them.

    Attributes:
        aggregate_class: Name of the aggregate's class.
        field: The attribute.
        declared: Whether it is a state field, ``id`` or ``version``.
    """

    def __init__(self, aggregate_class: str, field: str, *, declared: bool = True) -> None:
        """Build the message from the field."""
        self.aggregate_class = aggregate_class
        self.field = field
        self.declared = declared
        super().__init__(
            f"{aggregate_class}.{field} can only change in an @applies method: state is rebuilt from events, and a value set "
            "elsewhere would be lost. Call apply_event() with an event that says what happened."
            if declared
            else f"{aggregate_class}.{field} is set by an @applies method but is not a state field, so snapshots would lose it. "
            f"Annotate it in the class body, such as {field}: int = 0."
        )


class NestedEventError(EventSourceError, TypeError):
    """An ``@applies`` method applied a further event, which would be applied again at every replay.

    Apply both events in the method that takes the decision, or handle the second one where it belongs.

    Attributes:
        aggregate_class: Name of the aggregate's class.
        event_class: Name of the event's class.
    """

    def __init__(self, aggregate_class: str, event_class: str) -> None:
        """Build the message from the two classes."""
        self.aggregate_class = aggregate_class
        self.event_class = event_class
        super().__init__(
            f"{event_class} was applied within an @applies method of {aggregate_class}; those only set state. Apply both events "
            "in the method that takes the decision."
        )


class EmptyAggregateError(EventSourceError, sa_exc.InvalidRequestError):
    """A new aggregate without any event was flushed: there is nothing to store.

    Attributes:
        aggregate_type: The aggregate's stored type name.
        aggregate_id: Its id, as stored.
    """

    def __init__(self, aggregate_type: str, aggregate_id: str) -> None:
        """Build the message from the identity."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        super().__init__(
            f"{aggregate_type} {aggregate_id!r} has no events, so it cannot be stored. Call apply_event() before session.add(), or "
            "use session.no_autoflush if a query in between triggered the flush."
        )


class AggregateNotFoundError(EventSourceError, sa_exc.NoResultFound):
    """There is no such aggregate, or not yet at the moment or version asked for.

    Attributes:
        aggregate_type: The aggregate's stored type name.
        aggregate_id: Its id, as stored.
        moment: The time asked for, if one was.
        version: The version asked for, if one was.
    """

    def __init__(
        self, aggregate_type: str, aggregate_id: str, *, moment: datetime | None = None, version: int | None = None
    ) -> None:
        """Build the message from what was asked for."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.moment = moment
        self.version = version
        when = f" at {moment.isoformat()}" if moment is not None else f" at version {version}" if version is not None else ""
        super().__init__(f"there is no {aggregate_type} {aggregate_id!r}{when}")


class ReadOnlyAggregateError(EventSourceError, sa_exc.InvalidRequestError):
    """An event was applied to an aggregate as it stood in the past. Load the present one with ``session.get`` first.

    Attributes:
        aggregate_type: The aggregate's stored type name.
        aggregate_id: Its id, as stored.
        version: The version it was loaded at.
    """

    def __init__(self, aggregate_type: str, aggregate_id: str, version: int) -> None:
        """Build the message from the identity."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.version = version
        super().__init__(
            f"this {aggregate_type} {aggregate_id!r} is a view of version {version} and takes no events. "
            "Load the present one with session.get() and apply the event there."
        )


# -- writing -----------------------------------------------------------------------------------------------------------


class ConcurrencyError(EventSourceError, orm_exc.StaleDataError):
    """Another transaction has appended to the stream since it was loaded.

    Nothing of the flush was written. Roll back, load the aggregate again and decide anew; ``retry_on_conflict`` does that.

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


class EventAlreadyAppendedError(EventSourceError, sa_exc.InvalidRequestError):
    """Every event of a stream in this flush is already stored, with the same id, place and content.

    The work was done by an earlier transaction: roll back and carry on. Nothing was written this time.

    Attributes:
        event_ids: The events concerned.
        aggregate_type: The aggregate's stored type name.
        aggregate_id: Its id, as stored.
    """

    def __init__(self, event_ids: Sequence[UUID], aggregate_type: str, aggregate_id: str) -> None:
        """Build the message from the events."""
        self.event_ids = tuple(event_ids)
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        ids = ", ".join(str(event_id) for event_id in event_ids)
        super().__init__(
            f"already appended to {aggregate_type} {aggregate_id!r}: {ids}. An earlier transaction did this work; "
            "roll back and carry on."
        )


class EventIdConflictError(EventSourceError, sa_exc.InvalidRequestError):
    """An event id is already stored, with other content or at another place. Nothing was written; use a new id.

    Attributes:
        event_id: The id.
        aggregate_type: Type of the stream that holds it.
        aggregate_id: Id of the stream that holds it.
        version: Its version there.
        differences: Names of the columns that differ.
    """

    def __init__(self, event_id: UUID, *, aggregate_type: str, aggregate_id: str, version: int, differences: Sequence[str]) -> None:
        """Build the message from the stored event."""
        self.event_id = event_id
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.version = version
        self.differences = tuple(differences)
        super().__init__(
            f"event id {event_id} is already stored as version {version} of {aggregate_type} {aggregate_id!r}, with another "
            f"{', '.join(differences)}. Give the new event an id of its own."
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
        super().__init__(f"{operation} passes by the unit of work: no event would be written and no version checked. {advice}")


class SnapshotError(EventSourceError, ValueError):
    """An aggregate's state does not survive being stored as a snapshot.

    Correct the annotation of the field, or the value its ``@applies`` method sets. Nothing of the flush was written.

    Attributes:
        aggregate_class: Name of the aggregate's class.
        reason: What is wrong.
    """

    def __init__(self, aggregate_class: str, reason: str) -> None:
        """Build the message from the reason."""
        self.aggregate_class = aggregate_class
        self.reason = reason
        super().__init__(f"the state of {aggregate_class} cannot be stored as a snapshot: {reason}")


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


# -- read models -------------------------------------------------------------------------------------------------------


class ReadModelError(EventSourceError):
    """A read model could not take an event: a handler raised, or the database refused the row.

    Nothing was written: neither the row nor, for a strong model, the events. The cause is the error's ``__cause__``. Roll back;
    correct the handler, the declaration or the event.

    Attributes:
        model: The projection's name.
        events: The events, each with type, id and stream.
        rows: The keys of the rows concerned, as far as known.
        reason: What is wrong.
    """

    def __init__(self, model: str, *, events: Sequence[str], rows: Sequence[str], reason: str) -> None:
        """Build the message from the events and rows, of which it names the first few."""
        self.model = model
        self.events = tuple(events)
        self.rows = tuple(rows)
        self.reason = reason
        where = f" in row {_first_few(rows)}" if rows else ""
        super().__init__(f"read model {model!r} cannot take {_first_few(events) or 'a batch of events'}{where}: {reason}")


class ReadModelChangedError(EventSourceError):
    """A read model's rows were made under another declaration than the present one.

    Nothing was written. Call ``ReadModelManager.rebuild(model)``, or give the new declaration another ``__projection_name__``.

    Attributes:
        model: The projection's name.
    """

    def __init__(self, model: str) -> None:
        """Build the message from the name."""
        self.model = model
        super().__init__(
            f"the rows of read model {model!r} were made under another declaration; rebuild it with ReadModelManager.rebuild(), or "
            "give the new declaration another __projection_name__"
        )


class ReadModelWriteError(EventSourceError, sa_exc.InvalidRequestError):
    """A row of a read model was added, changed or deleted by hand.

    Rows follow from events: apply an event that says what happened, or write an ``@handles`` method.

    Attributes:
        subject: What was to be written.
    """

    def __init__(self, subject: str) -> None:
        """Build the message from the subject."""
        self.subject = subject
        super().__init__(
            f"{subject}: rows of read models follow from events. Apply an event to an aggregate, or change the row in an "
            "@handles method."
        )


def _first_few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"  # noqa: PLR2004 - a message stays short
