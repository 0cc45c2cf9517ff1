"""The base class of aggregates."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any, ClassVar, Generic
from uuid import UUID

from sqlalchemy.orm import NO_VALUE, declared_attr
from sqlalchemy.orm.attributes import flag_modified, instance_state, opt_manager_of_class
from typing_extensions import TypeVar

from sa_eventsource.aggregates.aggregate_definition import (
    AggregateDefinition,
    check_base,
    check_inheritance,
    check_names,
    definition_of,
)
from sa_eventsource.aggregates.handlers import HOW_TO_APPLY, Handlers
from sa_eventsource.aggregates.identity_columns import Id, Version
from sa_eventsource.aggregates.instance import (
    BOOKS,
    Books,
    books_of,
    drop_half_changed_state,
    for_pickle,
    identity_of,
    load_missing_state,
    session_side,
)
from sa_eventsource.aggregates.mapper_arguments import given_to, set_aside
from sa_eventsource.aggregates.own_methods import keep_own_methods, refuse_base_first
from sa_eventsource.aggregates.state import StateFields
from sa_eventsource.arguments import check_moment_of_event, check_uuid
from sa_eventsource.class_options import Kind, check_options
from sa_eventsource.clock import now
from sa_eventsource.events import DomainEvent, PendingEvent, StreamClosed, as_read, current_context, encode
from sa_eventsource.exceptions import (
    AggregateIdError,
    AggregateStateError,
    DeclarationError,
    EventSourceError,
    NestedEventError,
    ReadOnlyAggregateError,
    StreamClosedError,
)
from sa_eventsource.mapping import STORED_ID, streams_of, tables_of_base, undone_on_failure
from sa_eventsource.plain_functions import check_ran
from sa_eventsource.time_ordered_ids import uuid7

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Subquery

IdT = TypeVar("IdT", bound=str | UUID | int, default=str)


class AggregateRoot(Generic[IdT]):
    """Base of classes whose state is made from their events: ``class Order(AggregateRoot, Base)``.

    The class is mapped like any other: ``session.add(order)``, ``session.get(Order, id)``, ``select(Order)``. A flush writes the
    events applied since the last one, and fails with ``ConcurrencyError`` when another transaction has written first.

    State fields are annotated attributes with a default, ``pydantic.Field(default_factory=...)``, or none; they change only in
    methods marked ``@applies(EventType)``. The id is a ``str`` unless the base is written ``AggregateRoot[UUID]`` or
    ``AggregateRoot[int]``. A subclass of an aggregate is an aggregate type of its own that inherits fields and methods.

    Attributes:
        id: The aggregate's id, unique within its type; at most 255 characters as text.
        version: The number of events that made the present state; 0 before the first.
    """

    __aggregate_type__: ClassVar[str]
    """Name its events are stored under; the class's name by default. Not inherited."""

    __snapshot_frequency__: ClassVar[int | None] = None
    """Write a snapshot, in the same transaction, each time this many events have been added."""

    __snapshot_version__: ClassVar[int] = 1
    """Raise it to have older snapshots ignored when code that ``@applies`` methods call has changed."""

    __ignored_events__: ClassVar[tuple[type[DomainEvent], ...]] = ()
    """Events that are recorded but change no state."""

    __allow_unmapped__ = True

    _kind: ClassVar[Kind] = Kind.AGGREGATE
    """Which options it has."""

    __state_fields__: ClassVar[StateFields]
    __event_handlers__: ClassVar[Handlers]
    __aggregate_definition__: ClassVar[AggregateDefinition]

    id = Id()
    version = Version()

    def __init__(self, *, id: IdT | None = None) -> None:  # noqa: A002 - the attribute's name
        """Start a new aggregate, with version 0 and every state field at its default.

        Args:
            id: Its id. A new UUIDv7 by default; required where ids are ``int``.

        Raises:
            AggregateIdError: The id is of another type than declared, empty, too long, or missing where it is required.
        """
        definition = definition_of(type(self))
        value: Any = id
        if value is None:
            if definition.id_type is int:
                raise AggregateIdError(definition.aggregate_type, None, "ids of type int are not made up; pass id=")
            value = uuid7() if definition.id_type is UUID else str(uuid7())
        else:
            value = definition.plain_id(value)
        values = self.__dict__
        values["id"] = value
        values["version"] = 0
        values[BOOKS] = Books(is_loaded=True)
        definition.state.reset(values)
        # As an entity's whose constructor sets them: there is nothing that they were before.
        state = instance_state(self)
        state.modified = True
        state.committed_state["id"] = state.committed_state["version"] = NO_VALUE

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Collect state fields and ``@applies`` methods, and map the class.

        Raises:
            DeclarationError: The declaration is wrong. Correct what the message names; an earlier class of the name stays in place.
        """
        _collect(cls)
        if _inherits_mapping(cls) and "__table__" not in vars(cls):
            # Mapping a class puts the result of this on it, where its subclasses would find it instead of their own.
            cls.__table__ = vars(AggregateRoot)["__table__"]  # type: ignore[attr-defined]
        with undone_on_failure(getattr(cls, "metadata", None)):
            super().__init_subclass__(**kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a state field only while an event is applied, and nothing but state fields then.

        Raises:
            AggregateStateError: The value would be lost at the next load.
        """
        values = self.__dict__
        try:
            is_applying = values[BOOKS].is_applying
        except KeyError:
            is_applying = False
        if is_applying:
            if name in self.__state_fields__.names:
                values[name] = value
                return
            raise AggregateStateError(type(self).__name__, name, declared=False)
        if name in self.__state_fields__.names or name in {"version", "id"}:
            raise AggregateStateError(type(self).__name__, name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        """Delete an attribute; no part of what the log says.

        Raises:
            AggregateStateError: It is a state field, the id or the version.
        """
        if name in self.__state_fields__.names or name in {"version", "id"}:
            raise AggregateStateError(type(self).__name__, name)
        object.__delattr__(self, name)

    if not TYPE_CHECKING:  # a type checker would see these clash with the declarative base's

        @declared_attr.directive
        def __table__(cls) -> Subquery:  # noqa: N805 - SQLAlchemy calls it with the class
            """Map the class to its streams."""
            if opt_manager_of_class(cls) is None:
                # A tool reads all attributes of the base class, or of an abstract one: nothing is being mapped.
                raise AttributeError(f"{cls.__name__} is not mapped", name="__table__", obj=cls)
            definition = _define(cls)
            return streams_of(definition.tables.events, definition.aggregate_type, definition.id_type)

        @declared_attr.directive
        def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 - SQLAlchemy calls it with the class
            """Name the primary key, keep a subclass of an aggregate a type of its own, and add what the application gives.

            Without batches, a flush does not look for tables of a class that it has no instance to write of.
            """
            inherited = {"concrete": True} if _inherits_mapping(cls) else {}
            given = given_to(cls, vars(AggregateRoot)["__mapper_args__"])
            # STORED_ID is for the compiler, not for the application.
            ours = {"primary_key": [cls.__table__.c.id], "exclude_properties": {STORED_ID}, "batch": False}
            return {**given, **ours, **inherited}

    def apply_event(self, event: DomainEvent, *, occurred_at: datetime | None = None, event_id: UUID | None = None) -> None:
        """Change the state by an event, and keep the event for the next flush.

        The correlation id, causation id and metadata of ``event_context`` at this moment are stored with it.

        Args:
            event: What happened.
            occurred_at: When, with a time zone; now by default.
            event_id: The event's id; a new UUIDv7 by default. Give one that a retry can repeat, and a second append of the same
                event raises ``EventAlreadyAppendedError`` instead of storing it twice.

        Raises:
            EventPayloadError: The event holds a value that would not survive storage. The aggregate is unchanged.
            DeclarationError: Its class is none that it could be read as: abstract, a generic one with its parameters, an older
                version.
            UnhandledEventError: No ``@applies`` method takes the event. The aggregate is unchanged.
            ReadOnlyAggregateError: This is the aggregate as it stood in the past.
            NestedEventError: It was called by an ``@applies`` method.
            StreamClosedError: The stream is closed. Roll back; what is still to happen belongs to another aggregate.
            ValueError: *occurred_at* has no time zone, or lies outside of the years 1 to 9999 in UTC (or within a day of their
                ends).
            TypeError: *occurred_at* is no ``datetime``, or *event_id* no ``UUID``; or the ``@applies`` method returned a coroutine
                or a generator, of which nothing has run.
        """
        definition = definition_of(type(self))
        books = books_of(self)
        if books.is_read_only or books.is_applying:
            raise _refusal(self, event)
        apply = definition.handlers.find_for(event)
        payload = encode(event)
        if occurred_at is not None or event_id is not None:
            _check_given(occurred_at, event_id)
        if not books.is_loaded or books.pickled_fields is not None:
            load_missing_state(self)
            books = books_of(self)  # loading begins new ones
        if books.closing is not None:
            raise _closed(self, books.closing)
        state = instance_state(self)
        is_attached = state.session_id is not None
        if is_attached:
            session_side().check_active(self)
        context = current_context()
        pending = PendingEvent(
            event=event,
            payload=payload,
            event_id=uuid7() if event_id is None else event_id,
            version=self.version + 1,
            occurred_at=now() if occurred_at is None else occurred_at,
            correlation_id=context.correlation_id,
            causation_id=context.causation_id,
            metadata=context.metadata,
            time_given=occurred_at is not None,
            id_given=event_id is not None,
        )
        books.is_applying = True
        try:
            result = apply(self, as_read(event, payload))
            if result is not None:
                name = f"the @applies method of {type(self).__name__} for {type(event).__name__}"
                check_ran(name, result, HOW_TO_APPLY)
        except BaseException:
            drop_half_changed_state(self)
            raise
        finally:
            books.is_applying = False
        books.pending.append(pending)
        self.__dict__["version"] = pending.version
        if is_attached:
            session_side().keep(self)
        elif not state.modified:  # one that is detached, and unchanged so far
            flag_modified(self, "version")

    def close_stream(self, reason: str = "", *, occurred_at: datetime | None = None, event_id: UUID | None = None) -> None:
        """End the stream: apply :class:`~sa_eventsource.StreamClosed`, after which it takes no further event, from anyone.

        The aggregate stays: it is loaded, looked back on and read by read models as before. Closing holds from the commit on. Who
        has loaded the aggregate before and commits later gets ``StreamClosedError``, and so does whoever appends without loading.
        It cannot be taken back.

        Args:
            reason: Why, for the event. It is kept for good, in clear: write nothing personal.
            occurred_at: As for :meth:`apply_event`.
            event_id: As for :meth:`apply_event`.

        Raises:
            StreamClosedError: It is closed already.
            EventSourceError: As for :meth:`apply_event`.
        """
        self.apply_event(StreamClosed(reason=reason), occurred_at=occurred_at, event_id=event_id)

    @property
    def is_stream_closed(self) -> bool:
        """Whether the stream has ended, as far as the aggregate has been loaded and events been applied."""
        load_missing_state(self)
        return books_of(self).closing is not None

    def __getstate__(self) -> object:
        """Give what a pickle holds: state and pending events.

        Where the class has got a state field when it is unpickled, the state is loaded again.
        """
        state = super().__getstate__()
        return {**state, BOOKS: for_pickle(self)} if isinstance(state, dict) else state

    @property
    def pending_events(self) -> tuple[DomainEvent, ...]:
        """The events applied since the last flush, oldest first."""
        return tuple(each.event for each in books_of(self).pending)

    def __repr__(self) -> str:
        """Name the class, the id and the version, without loading anything."""
        values, key = vars(self), instance_state(self).key
        identity = key[1][0] if key is not None else values.get("id")
        return f"<{type(self).__name__} {identity!r} v{values.get('version', '?')}>"


def _refusal(aggregate: AggregateRoot[Any], event: DomainEvent) -> EventSourceError:
    """Say why a view of the past, or an aggregate that is applying an event, takes none."""
    definition = definition_of(type(aggregate))
    if books_of(aggregate).is_read_only:
        return ReadOnlyAggregateError(definition.aggregate_type, definition.text_id(aggregate.id), aggregate.version)
    return NestedEventError(type(aggregate).__name__, type(event).__name__)


def _closed(aggregate: AggregateRoot[Any], closing: StreamClosed) -> StreamClosedError:
    definition = definition_of(type(aggregate))
    aggregate_id = definition.text_id(identity_of(aggregate))
    return StreamClosedError(definition.aggregate_type, aggregate_id, version=aggregate.version, reason=closing.reason)


def _check_given(occurred_at: datetime | None, event_id: UUID | None) -> None:
    if occurred_at is not None:
        check_moment_of_event("occurred_at", occurred_at)
    if event_id is not None:
        check_uuid("event_id", event_id)


def _collect(cls: type[AggregateRoot[Any]]) -> None:
    if "__state_fields__" not in vars(cls):
        refuse_base_first(cls, AggregateRoot)
        check_options(cls, cls._kind)
        check_inheritance(cls)
        reserved = frozenset(name for name in dir(AggregateRoot) if not name.startswith("_")) - {"id", "version"}
        fields = StateFields(cls, load_missing_state, reserved=reserved)
        handlers = Handlers(cls)
        cls.__state_fields__, cls.__event_handlers__ = fields, handlers
        keep_own_methods(cls, AggregateRoot)
        set_aside(cls, vars(AggregateRoot)["__mapper_args__"])


def _define(cls: Any) -> AggregateDefinition:
    _collect(cls)
    metadata = getattr(cls, "metadata", None)
    if metadata is None:
        raise DeclarationError(
            f"{cls.__name__} has no metadata to put the log's tables on. Declare it on a declarative base, or, where a registry "
            f"maps it, write metadata = mapper_registry.metadata in {cls.__name__}."
        )
    check_base(cls, metadata)
    aggregate_type, id_type = vars(cls).get("__aggregate_type__", cls.__name__), _id_type(cls)
    check_names(cls, aggregate_type, id_type)
    definition = AggregateDefinition(
        aggregate_class=cls,
        aggregate_type=aggregate_type,
        id_type=id_type,
        tables=tables_of_base(cls.__name__, cls),
        snapshot_frequency=cls.__snapshot_frequency__,
        handlers=cls.__event_handlers__,
        state=cls.__state_fields__,
    )
    cls.__aggregate_definition__ = definition
    return definition


def _id_type(cls: type[Any]) -> type[Any]:
    argument = _id_argument(cls)
    return str if isinstance(argument, TypeVar) else argument


def _id_argument(cls: type[Any]) -> Any:
    """Find what stands in the brackets of ``AggregateRoot[...]``, through generic classes in between; a variable where nothing."""
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = typing.get_origin(base) or base
        if origin is AggregateRoot:
            return next(iter(typing.get_args(base)), IdT)
        if isinstance(origin, type) and issubclass(origin, AggregateRoot):
            argument = _id_argument(origin)
            parameters = getattr(origin, "__parameters__", ())
            given = typing.get_args(base)
            return given[parameters.index(argument)] if given and argument in parameters else argument
    return IdT


def _inherits_mapping(cls: type[Any]) -> bool:
    return any("__mapper__" in vars(base) for base in cls.__mro__[1:])
