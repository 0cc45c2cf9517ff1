"""Aggregates of one class: loading, saving, time travel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic

from sqlalchemy import select
from typing_extensions import TypeVar

from sa_eventsource.aggregates import AggregateRoot, definition_of, past_view, session_side
from sa_eventsource.arguments import (
    MAX_VERSION,
    check_axis,
    check_moment,
    check_moment_of_event,
    check_uuid,
    version_number,
    whole_number,
)
from sa_eventsource.events import DomainEvent
from sa_eventsource.exceptions import AggregateNotFoundError
from sa_eventsource.mapping import check_class, check_session, present_session
from sa_eventsource.repository.unloaded_streams import Expected, ExpectedVersion, UnloadedStream
from sa_eventsource.store import (
    EventQuery,
    autoflush,
    flush_first,
    known_at,
    locate,
    read_stream,
    refuse_archived,
    version_recorded_at,
)

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session, scoped_session

    from sa_eventsource.arguments import TimeAxis

A = TypeVar("A", bound=AggregateRoot[Any])

_EXPECTED = (
    "the version that the stream has (versions count from 1, and 0 is a stream without events), ExpectedVersion.NO_STREAM or "
    "ExpectedVersion.ANY"
)


class EventSourcedRepository(Generic[A]):
    """The aggregates of one class in one session.

    ``get`` and ``save`` are ``session.get`` and ``session.add`` under the names of the field; the rest has no counterpart there.
    """

    def __init__(self, session: Session | scoped_session[Session], aggregate_class: type[A]) -> None:
        """Bind the repository to a session.

        Raises:
            DeclarationError: *aggregate_class* is not a mapped aggregate.
            TypeError: *session* is no ``Session``, or *aggregate_class* no class.
        """
        check_session("EventSourcedRepository()", session, instead="AsyncEventSourcedRepository")
        check_class("EventSourcedRepository()", aggregate_class, "an aggregate's class, such as Order")
        self._given = session
        self._aggregate_class = aggregate_class
        self._definition = definition_of(aggregate_class)

    @property
    def _session(self) -> Session:
        return present_session(self._given)

    def get(self, aggregate_id: Any) -> A:
        """Load an aggregate, or return the one the session has.

        Raises:
            AggregateNotFoundError: It has no events.
            StreamArchivedError: Its stream is archived. Bring it back first.
            AggregateIdError: *aggregate_id* is not of the declared type.
        """
        aggregate = self.get_or_none(aggregate_id)
        if aggregate is None:
            raise AggregateNotFoundError(self._definition.aggregate_type, self._definition.text_id(aggregate_id))
        return aggregate

    def get_or_none(self, aggregate_id: Any) -> A | None:
        """Load an aggregate, or return the one the session has; None if it has no events.

        Raises:
            AggregateIdError: *aggregate_id* is not of the declared type.
            StreamArchivedError: Its stream is archived. Bring it back first.
        """
        self._definition.text_id(aggregate_id)
        return self._session.get(self._aggregate_class, aggregate_id)

    def save(self, aggregate: A) -> None:
        """Put an aggregate into the session and flush the session, so that a conflict shows here and not at commit.

        The caller commits.

        Raises:
            ConcurrencyError: Another transaction has appended to it. Roll back, load it again and decide again.
            EmptyAggregateError: It is new and has no events.
            EventAlreadyAppendedError: Its events are stored already.
            EventIdConflictError: The id of one of its events is taken.
            StreamClosedError: Another transaction has closed its stream.
            TypeError: It is not of the repository's class.
        """
        if not isinstance(aggregate, self._aggregate_class):
            raise TypeError(f"save() of this repository takes an instance of {self._aggregate_class.__name__}, not {aggregate!r}")
        self._session.add(aggregate)
        flush_first(self._session)

    def load_at_time(self, aggregate_id: Any, moment: datetime, *, axis: TimeAxis = "occurred") -> A:
        """Rebuild an aggregate as it stood at one moment, or as it was known then.

        The result belongs to no session and refuses new events. It starts from a snapshot where one lies wholly before.

        Args:
            aggregate_id: The aggregate's id.
            moment: Time-zone aware; events of exactly then are included.
            axis: ``"occurred"``: as it was then, made of the events that had happened by then, in the order of their versions,
                whenever they were written. ``"recorded"``: as we knew it then, made of what the log held by then. An event is
                recorded when it is written, by the database's clock, and seen by others from the commit on. Where that clock was
                set back, the state ends before the first event that was recorded later than *moment*.

        Raises:
            AggregateNotFoundError: It had no event yet at that moment.
            StreamArchivedError: Its stream is archived. Bring it back first.
            TypeError: *moment* is no ``datetime``.
            ValueError: *moment* has no time zone; pass ``datetime.now(UTC)`` or another aware time. Or *axis* is neither of the
                two.
        """
        check_moment("moment", moment)
        check_axis(axis)
        text_id = self._to_view(aggregate_id, moment=moment, axis=axis)
        if axis == "occurred":
            return self._view(aggregate_id, text_id, moment=moment)
        events, aggregate_type = self._definition.tables.events, self._definition.aggregate_type
        connection, _ = locate(self._session, self._definition, aggregate_id)
        version = version_recorded_at(connection, events, aggregate_type, text_id, moment)
        if version == 0:
            refuse_archived(connection, events, aggregate_type, text_id)
            raise AggregateNotFoundError(aggregate_type, text_id, moment=moment, axis=axis)
        return self._view(aggregate_id, text_id, version=version)

    def load_at_version(self, aggregate_id: Any, version: int) -> A:
        """Rebuild an aggregate as it stood after its first *version* events.

        The result belongs to no session and refuses new events.

        Raises:
            AggregateNotFoundError: It never had so many events.
            StreamArchivedError: Its stream is archived. Bring it back first.
            TypeError: *version* is no whole number.
            ValueError: *version* is less than 1.
        """
        version = version_number("version", version, minimum=1, meaning="a version; versions count from 1")
        text_id = self._to_view(aggregate_id, version=version)
        view = self._view(aggregate_id, text_id, version=version)
        if view.version != version:
            raise AggregateNotFoundError(
                self._definition.aggregate_type, text_id, version=version, last_version=view.version or None
            )
        return view

    def history(self, aggregate_id: Any, moment: datetime | None = None, *, axis: TimeAxis = "occurred") -> EventQuery:
        """The aggregate's events, as a query: ``repository.history(order_id).all()``.

        Args:
            aggregate_id: The aggregate's id.
            moment: Only those events that :meth:`load_at_time` makes the aggregate of at this moment; None for all.
            axis: Which of the events' times *moment* is, as for :meth:`load_at_time`.

        Raises:
            AggregateIdError: *aggregate_id* is not of the declared type.
            TypeError: *moment* is no ``datetime``.
            ValueError: *moment* has no time zone, or *axis* is neither ``"occurred"`` nor ``"recorded"``.
        """
        check_axis(axis)
        text_id = self._definition.text_id(aggregate_id)  # of None, too, which would stand for all aggregates below
        query: EventQuery = EventQuery(self._session, self._definition.tables.events).of(self._aggregate_class, aggregate_id)
        if moment is None:
            return query
        check_moment("moment", moment)
        return query.where(known_at(self._definition.tables.events, self._definition.aggregate_type, text_id, moment, axis))

    def append(
        self,
        aggregate_id: Any,
        events: Sequence[DomainEvent],
        *,
        expected_version: Expected,
        occurred_at: datetime | None = None,
        event_ids: Sequence[UUID] | None = None,
    ) -> int:
        """Append events without loading the aggregate, within a savepoint of the session's transaction.

        An error undoes the savepoint only; the session can go on. The instance that the session may have is flushed first and
        expired afterwards. The aggregate's rules are not asked, but it must have ``@applies`` methods for the events. No snapshot
        is written.

        Args:
            aggregate_id: The aggregate's id.
            events: One or more events.
            expected_version: The version they follow, ``ExpectedVersion.NO_STREAM`` or ``ExpectedVersion.ANY``.
            occurred_at: When they occurred, with a time zone; now by default.
            event_ids: One id for each event, for an append that can be repeated; new ones by default.

        Returns:
            The version of the last event.

        Raises:
            ConcurrencyError: The stream is at another version; with ``ANY``, other writers came first a hundred times, the
                isolation level hides them, or only a part of the events is stored already.
            DuplicateAggregateError: This transaction has itself written events after *expected_version*, or a part of these.
                Give the version that its last append returned.
            EventAlreadyAppendedError: The same events are stored already at that place. Carry on.
            EventIdConflictError: An event id is taken.
            EventPayloadError: An event holds a value that would not survive storage.
            StreamClosedError: The stream is closed, or by an event that is not the last one.
            UnhandledEventError: The aggregate has no method for an event.
            UnknownShardError: A sharded session does not know where the aggregate belongs.
            TypeError: *expected_version* is neither a whole number nor an ``ExpectedVersion``. Turn the text of an ``If-Match``
                header into a number first. Or *events* or *event_ids* is no list.
            ValueError: There are no events, or not as many ids as events; *expected_version* is negative, or higher than any stream
                can have; or *occurred_at* has no time zone, or lies outside of the years 1 to 9999 in UTC (or within a day of
                their ends).
        """
        if isinstance(events, DomainEvent | str | bytes) or not isinstance(events, Sequence):
            raise TypeError(f"append() takes a list of events, not {events!r}")
        if isinstance(event_ids, str | bytes) or not isinstance(event_ids, Sequence | None):
            raise TypeError(f"append() takes event_ids as a list of UUIDs, in the order of the events, not {event_ids!r}")
        if not events or (event_ids is not None and len(event_ids) != len(events)):
            raise ValueError("append() takes at least one event, and either no event_ids or one for each event")
        _check_stamps(occurred_at, event_ids)
        if not isinstance(expected_version, ExpectedVersion):
            room = MAX_VERSION - len(events)
            expected_version = whole_number("expected_version", expected_version, minimum=0, meaning=_EXPECTED, maximum=room)
        stream = UnloadedStream(self._session, self._aggregate_class, aggregate_id)
        flush_first(self._session)
        return stream.append(events, expected_version, occurred_at=occurred_at, event_ids=event_ids)

    def _to_view(self, aggregate_id: Any, **asked: Any) -> str:
        """Get ready to view the past of an aggregate.

        Returns:
            Its id as stored.

        Raises:
            AggregateNotFoundError: A hook of the application keeps it from the session's statements, as another tenant's.
        """
        text_id = self._definition.text_id(aggregate_id)
        autoflush(self._session)
        if session_side().has_statement_hooks(self._session):
            aggregate_class: Any = self._aggregate_class
            if self._session.scalar(select(aggregate_class.id).where(aggregate_class.id == aggregate_id)) is None:
                raise AggregateNotFoundError(self._definition.aggregate_type, text_id, **asked)
        return text_id

    def _view(self, aggregate_id: Any, text_id: str, *, moment: datetime | None = None, version: int | None = None) -> A:
        connection, _ = locate(self._session, self._definition, aggregate_id)
        stream = read_stream(connection, self._definition, text_id, version=version, moment=moment)
        if stream is None:
            refuse_archived(connection, self._definition.tables.events, self._definition.aggregate_type, text_id)
            raise AggregateNotFoundError(self._definition.aggregate_type, text_id, moment=moment, version=version)
        return past_view(self._aggregate_class, text_id, stream.rows, snapshot=stream.snapshot, contiguous=moment is None)


def _check_stamps(occurred_at: datetime | None, event_ids: Sequence[UUID] | None) -> None:
    if occurred_at is not None:
        check_moment_of_event("occurred_at", occurred_at)
    for each in event_ids or ():
        check_uuid("event_ids", each)
