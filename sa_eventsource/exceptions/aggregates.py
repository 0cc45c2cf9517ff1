"""Aggregates that are used in a way that cannot work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exc as sa_exc

from sa_eventsource.exceptions.base import EventSourceError

if TYPE_CHECKING:
    from datetime import datetime

_WRITTEN_BITS = 1024


class UnhandledEventError(EventSourceError, TypeError):
    """An aggregate has no ``@applies`` method for an event.

    Attributes:
        aggregate_class: Name of the aggregate's class.
        event_class: Name of the event's class.
    """

    def __init__(self, aggregate_class: str, event_class: str, *, may_react: bool = False) -> None:
        """Build the message from the two classes; *may_react* where a process manager might react to the event instead."""
        self.aggregate_class = aggregate_class
        self.event_class = event_class
        method = f"@applies({event_class})"
        lacks = f"has neither a @reacts({event_class}) method nor an {method} one" if may_react else f"has no {method} method"
        super().__init__(
            f"{aggregate_class} {lacks}. Write one, or list {event_class} in "
            f"{aggregate_class}.__ignored_events__ if it changes no state."
        )


class RedeclaredEventError(UnhandledEventError):
    """An event's class was declared again, and the aggregate or the event at hand is of the declaration before.

    It happens in notebooks, where a cell is run again, and after ``importlib.reload``.

    Attributes:
        to_repeat: The class whose declaration must run again; None if it is the event that must be made again.
    """

    def __init__(self, aggregate_class: str, event_class: str, *, to_repeat: str | None, base_class: str | None = None) -> None:
        """Build the message from the classes; *base_class* is the one that was declared again, of which the event is."""
        super().__init__(aggregate_class, event_class)
        self.to_repeat = to_repeat
        base = base_class or event_class
        if to_repeat is None:
            message = (
                f"this {event_class} was made before its class was declared again, and {aggregate_class} takes the new "
                "declaration. Make the event again."
            )
        elif to_repeat == aggregate_class:
            message = (
                f"{base} was declared again after {aggregate_class}, whose @applies({base}) method takes the earlier "
                f"declaration. Run that of {aggregate_class} again too: its cell in a notebook, or reload its module."
            )
        else:
            message = (
                f"{base} was declared again after {event_class}, which inherits from the earlier declaration. Run that of "
                f"{event_class} again too: its cell in a notebook, or reload its module."
            )
        self.args = (message,)


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
        # Python refuses to write integers of some thousand digits.
        is_huge = isinstance(value, int) and value.bit_length() > _WRITTEN_BITS
        shown = f"an int of {value.bit_length()} bits" if is_huge else repr(value)  # type: ignore[attr-defined]
        super().__init__(f"{shown} cannot be an id of {aggregate_type}: {reason}")


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


class StateFieldQueryError(EventSourceError, sa_exc.ArgumentError, sa_exc.InvalidRequestError):
    """A state field was used in a statement, such as ``select(Order).where(Order.status == "paid")``.

    State is made from events in Python; the database has no column of it. Query a read model that keeps it, see the how-to "Find
    aggregates by their state".

    Attributes:
        aggregate_class: Name of the aggregate's class.
        field: The state field.
    """

    def __init__(self, aggregate_class: str, field: str) -> None:
        """Build the message from the field."""
        self.aggregate_class = aggregate_class
        self.field = field
        super().__init__(
            f"{aggregate_class}.{field} is a state field: it is made from events in Python, so the database cannot filter, sort or "
            f"select by it. Keep it in a read model, {field}: Mapped[...] = map_from_event(..., index=True), and query that one. "
            'See "Find aggregates by their state" in the how-to guides.'
        )


class StateFieldAttributeError(StateFieldQueryError, AttributeError):
    """Something that only a column has was asked of a state field, such as ``Order.status.label("state")``.

    Attributes:
        attribute: What was asked for.
    """

    def __init__(self, aggregate_class: str, field: str, attribute: str) -> None:
        """Build the message from the field."""
        self.attribute = attribute
        super().__init__(aggregate_class, field)


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
        axis: Which of the events' times *moment* is: ``occurred`` or ``recorded``.
        last_version: Its last version before *version*, where it has one.
        first_moment: When its first event occurred, or was recorded, where it has one and that is known.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        aggregate_type: str,
        aggregate_id: str,
        *,
        moment: datetime | None = None,
        version: int | None = None,
        axis: str = "occurred",
        last_version: int | None = None,
        first_moment: datetime | None = None,
    ) -> None:
        """Build the message from what was asked for."""
        self.aggregate_type = aggregate_type
        self.aggregate_id = aggregate_id
        self.moment = moment
        self.version = version
        self.axis = axis
        self.last_version = last_version
        self.first_moment = first_moment
        when = f" at version {version}" if version is not None else ""
        if moment is not None:
            when = f" {'at' if axis == 'occurred' else 'recorded by'} {moment.isoformat()}"
        last = f"; its last version before that is {last_version}" if last_version is not None else ""
        if first_moment is not None:
            last = f"; its first event {'occurred at' if axis == 'occurred' else 'was recorded at'} {first_moment.isoformat()}"
        super().__init__(f"there is no {aggregate_type} {aggregate_id!r}{when}{last}")


class PartialStateError(EventSourceError, sa_exc.InvalidRequestError, KeyError):
    """A state field was named where SQLAlchemy takes a column: ``session.refresh(order, ["status"])``, ``flag_modified``.

    Attributes:
        aggregate_class: Name of the aggregate's class.
        field: The state field.
    """

    def __init__(self, aggregate_class: str, field: str) -> None:
        """Build the message from the field."""
        self.aggregate_class = aggregate_class
        self.field = field
        super().__init__(
            f"{aggregate_class}.{field} is a state field, which cannot be loaded, expired or marked by itself: the state of an "
            "aggregate "
            "follows as a whole from its events. Call session.refresh() or session.expire() without attribute names, and "
            "apply_event() "
            "to change it."
        )


class OneSidedRelationshipError(EventSourceError, sa_exc.InvalidRequestError):
    """A relationship that only aggregates could write was changed; its rows would not have been written.

    Attributes:
        aggregate_class: Name of the aggregate's class.
        relationship: The relationship.
        other_aggregate: Name of the class on its other side, where that is an aggregate too; else None.
    """

    def __init__(self, aggregate_class: str, relationship: str, other_aggregate: str | None = None) -> None:
        """Build the message from the relationship."""
        self.aggregate_class = aggregate_class
        self.relationship = relationship
        self.other_aggregate = other_aggregate
        advice = (
            "Declare the relationship on the other class as well, with back_populates on both, viewonly on neither and without "
            "sync_backref=False, and it is written from there; or set the foreign key there, and viewonly=True here."
            if other_aggregate is None
            else f"{other_aggregate}, on the other side, is an aggregate too, so nobody would write the row that links the two. "
            "Say it by an event; or map the table of the links to a class of its own, add instances of that to the session, and "
            "set viewonly=True here."
        )
        super().__init__(
            f"{aggregate_class}.{relationship} was changed, but an aggregate writes events and no foreign keys of other rows. "
            f"{advice}"
        )


class UninitializedAggregateError(EventSourceError, AttributeError):
    """State was read or an event applied before the constructor of ``AggregateRoot`` had run.

    Attributes:
        aggregate_class: Name of the aggregate's class.
    """

    def __init__(self, aggregate_class: str) -> None:
        """Build the message from the class."""
        self.aggregate_class = aggregate_class
        super().__init__(
            f"{aggregate_class} has no id and no state yet: {aggregate_class}.__init__ must call super().__init__() before it "
            "reads "
            "state or applies events. Pass id= there if the id is given."
        )


class ReadOnlyAggregateError(EventSourceError, sa_exc.InvalidRequestError):
    """An aggregate as it stood in the past was given an event, or was to be saved. Load the present one with ``session.get``.

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


class InactiveTransactionError(EventSourceError, sa_exc.InvalidRequestError):
    """An event was applied, or an aggregate with events added, when the session's transaction could no longer write it.

    The transaction is prepared or committed, as in an ``after_commit`` hook, or a flush has failed in it. Do it in
    ``before_commit`` or earlier, or in the next transaction; after a failed flush, roll back first. Nothing is changed.

    Attributes:
        aggregate: The aggregate, as its ``repr``.
    """

    def __init__(self, aggregate: str) -> None:
        """Build the message from the aggregate."""
        self.aggregate = aggregate
        super().__init__(
            f"{aggregate} can neither take events now nor be added with some: the session's transaction is prepared, committed or "
            "has failed, and no flush would write them. Do it before the commit (a before_commit hook is the last moment), or in "
            "the next transaction; after a failed flush, roll back first."
        )
