"""What read models and subscriptions have in common: they take events from the log, each once and every stream in order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sa_eventsource.consumers.handling import handling, within_transaction
from sa_eventsource.events import revision, split_sources_of, stored_types
from sa_eventsource.exceptions import DeclarationError, ReadModelChangedError
from sa_eventsource.mapping import MAX_NAME_LENGTH, quoted
from sa_eventsource.store import Reading, is_refusal, meaning_of, stored_as

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, FromClause
    from sqlalchemy.orm import Session

    from sa_eventsource.consumers.handling import HandlerMethod
    from sa_eventsource.consumers.start import Start
    from sa_eventsource.events import DomainEvent, RecordedEvent, SplitSource
    from sa_eventsource.exceptions import EventSourceError
    from sa_eventsource.mapping import EventSourceTables

OnError: TypeAlias = Literal["stop", "park"]
"""What happens to an event that cannot be taken after several attempts: all that follows waits behind it, or it is parked."""


MAX_SHARDS = 256
"""Into how many parts the streams can be dealt out."""


@dataclass(eq=False, kw_only=True)
class Consumer(ABC):
    """Whatever takes events under one name.

    Attributes:
        name: The name that its checkpoint is kept under.
        tables: The tables of the log it follows.
        handlers: Methods or functions by stored name of the event type.
        on_error: What happens to an event that cannot be taken.
        shards: Into how many parts it is split, each with a checkpoint of its own; streams are dealt out among them.
        aggregate_types: The types of the aggregates whose events it takes; None for all.
    """

    name: str
    tables: EventSourceTables
    handlers: Mapping[str, HandlerMethod] = field(default_factory=dict)
    on_error: OnError = "stop"
    shards: int = 1
    aggregate_types: tuple[str, ...] | None = None
    _split_sources: tuple[int, Sequence[SplitSource]] | None = field(default=None, init=False)

    @cached_property
    def event_classes(self) -> Mapping[str, type[DomainEvent]]:
        """All event classes that it takes, by stored name."""
        return {**self.declared_classes(), **{name: method.event_class for name, method in self.handlers.items()}}

    @abstractmethod
    def declared_classes(self) -> Mapping[str, type[DomainEvent]]:
        """The event classes that it takes without a handler, by stored name."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of the declaration: what was done under another one must be done again."""

    @property
    @abstractmethod
    def bind_arguments(self) -> dict[str, Any]:
        """What shows a session with several binds which to use."""

    def changed(self) -> EventSourceError:
        """Make the error that says that what was done so far was done under another declaration."""
        return ReadModelChangedError(self.name)

    @property
    def begins(self) -> Start:
        """Where it begins when it is new."""
        return "beginning"

    @property
    def batch_size(self) -> int:
        """Events in a transaction."""
        return 1_000

    @property
    def first_batch_size(self) -> int:
        """Events in a transaction while it is not known how long one takes."""
        return 100

    @property
    def personal_data(self) -> Reading:
        """How it reads personal data."""
        return Reading.CLEAR

    @abstractmethod
    def refused(self, events: Sequence[RecordedEvent[Any]], error: BaseException) -> EventSourceError:
        """Make the error that says which events could not be taken."""

    @cached_property
    def own_stored_types(self) -> tuple[str, ...]:
        """All names that its events are stored under as such, former ones included."""
        return tuple(name for event_class in self.event_classes.values() for name in stored_types(event_class))

    @property
    def split_sources(self) -> Sequence[SplitSource]:
        """The stored events that upcasters may make its events of."""
        present, known = revision(), self._split_sources
        if known is None or known[0] != present:
            known = self._split_sources = present, split_sources_of(self.event_classes.values())
        return known[1]

    @property
    def stored_types(self) -> tuple[str, ...]:
        """All names that its events may be stored under: their own, former ones included, and those of events that are split."""
        sources = self.split_sources
        return (
            tuple(dict.fromkeys([*self.own_stored_types, *(each.event_type for each in sources)]))
            if sources
            else self.own_stored_types
        )

    def takes_from(self, aggregate_type: str) -> bool:
        """Check whether it takes the events of aggregates of a type."""
        return self.aggregate_types is None or aggregate_type in self.aggregate_types

    def takes(self, recorded: RecordedEvent[Any]) -> bool:
        """Check whether it takes an event, by the types of the event and of the aggregate."""
        return type(recorded.event).__event_type__ in self.event_classes and self.takes_from(recorded.aggregate_type)

    def of_types(self, events: FromClause) -> list[ColumnElement[bool]]:
        """Write the condition that events are of the types that it takes."""
        return [stored_as(events, self.own_stored_types, self.split_sources)]

    def of_aggregates(self, events: FromClause) -> list[ColumnElement[bool]]:
        """Write the condition that events are of the aggregates whose it takes; none where it takes all."""
        if self.aggregate_types is None:
            return []
        return [events.c.aggregate_type.in_([quoted(name) for name in self.aggregate_types])]

    def handler_of(self, recorded: RecordedEvent[Any]) -> HandlerMethod | None:
        """Get the handler that takes an event; None if there is none."""
        return self.handlers.get(type(recorded.event).__event_type__) if self.takes_from(recorded.aggregate_type) else None

    def call_handler(self, recorded: RecordedEvent[Any], session: Session) -> None:
        """Give an event to the handler that takes it, if there is one.

        Raises:
            ReadModelError: The handler of a read model raised something else than an error of the database that a retry may mend,
                or ended the transaction.
            SubscriptionError: That of a subscription did.
        """
        handler = self.handler_of(recorded)
        if handler is None:
            return
        connection = session.connection(bind_arguments=self.bind_arguments)
        try:
            with handling(session), within_transaction(session, connection):
                handler.take(recorded, session)
        except Exception as error:
            if meaning_of(error) is not None and not is_refusal(error):
                raise
            raise self.refused([recorded], error) from error

    def parks_under(self, connection: Connection, position: int) -> tuple[str, str] | None:  # noqa: ARG002 - that of others
        """Say behind which stream an event is parked that cannot be taken: type and id; None for its own."""
        return None

    def named(self, events: Sequence[RecordedEvent[Any]]) -> list[str]:
        """Name the events, for a message."""
        return [
            f"{type(one.event).__event_type__} {one.event_id} ({one.aggregate_type} {one.aggregate_id!r} version {one.version})"
            for one in events
        ]


def check_name(where: str, name: object) -> None:
    """Check that a checkpoint can be kept under a name.

    Args:
        where: What has the name, for the message.
        name: The name.

    Raises:
        DeclarationError: It cannot.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH or set(name) & set("\x00#@"):
        raise DeclarationError(f"{where} {name!r}: a name has 1 to {MAX_NAME_LENGTH} characters, and none of #, @ and NUL")


def check_following(where: str, consumer: Consumer) -> None:
    """Check how a consumer wants to follow the log.

    Raises:
        DeclarationError: It cannot.
    """
    if consumer.on_error not in ("stop", "park"):
        raise DeclarationError(f'{where}: on_error is {consumer.on_error!r}; it must be "stop" or "park"')
    if not isinstance(consumer.shards, int) or not 1 <= consumer.shards <= MAX_SHARDS:
        raise DeclarationError(f"{where}: shards is {consumer.shards!r}; it must be a number from 1 to {MAX_SHARDS}")
