"""How a process manager follows the log: as a subscription, whose checkpoint, events and commands are one transaction.

All ids derive from the process, the event and the place in what was returned: an event that is taken once more, because the
subscription was rewound or a log restored, adds nothing. The methods are pure, so that they can be asked again where the handler of
a command wrote to the same process first. An event that cannot be taken is parked under the process, not under its own stream:
what comes behind it for that process may be of any stream, and must not overtake it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID, uuid5

from sqlalchemy import exists, inspect, or_, select

from sa_eventsource.application_errors import ends_program
from sa_eventsource.commands import require_table, schedule, schedule_time_out
from sa_eventsource.consumers import Subscription, by_stored_name
from sa_eventsource.events import DomainEvent, event_context, place
from sa_eventsource.exceptions import ConcurrencyError, StreamArchivedError
from sa_eventsource.mapping import MAX_NAME_LENGTH
from sa_eventsource.processes.reactions import After
from sa_eventsource.projections import park_behind
from sa_eventsource.store import read_events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.consumers import NamedSubscription
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.processes.reactions import Reaction

_NAMESPACE = UUID("6f0ac9a5-6a37-5a1c-9d3e-6c1d0f5f7c11")

_RACES = 5
"""How often a process is asked at most, where others are faster."""

_LOOKED_FOR = 16
"""How many of the things that an event may have led to are looked for: one would do, but old commands are pruned."""


@dataclass(frozen=True, slots=True)
class DeclaredProcess:
    """A process manager and what it reacts to.

    Attributes:
        process_class: The class.
        definition: What the library knows of the aggregate that it is.
        reactions: Its methods, by the class of the event.
    """

    process_class: type[Any]
    definition: AggregateDefinition
    reactions: Mapping[type[DomainEvent], Reaction]

    @property
    def name(self) -> str:
        """The name that its progress is kept under."""
        return self.definition.aggregate_type

    @property
    def event_types(self) -> Sequence[type[DomainEvent]]:
        """The event classes that it takes."""
        return tuple(self.reactions)

    @property
    def base(self) -> Any:
        """The declarative base of the log."""
        return self.process_class

    @property
    def place(self) -> str:
        """Where the class is."""
        return place(self.process_class)

    def stands_in_for(self, other: NamedSubscription) -> bool:
        """Check whether this is the declaration that *other* was, made once more, as by ``importlib.reload()``."""
        return isinstance(other, DeclaredProcess) and self.place == other.place

    def on_log(self, tables: EventSourceTables, owner: type[Any]) -> ProcessSubscription:
        """Make the subscription to a log, of an aggregate whose events it takes."""
        made = ProcessSubscription(
            name=self.name,
            tables=tables,
            on_error=self.process_class.__on_error__,
            start=self.process_class.__start__,
            events_at_a_time=100,
            mapper=inspect(owner),
            process=self,
        )
        made.handlers = by_stored_name(dict.fromkeys(self.event_types, made.take))
        return made

    def process_id(self, recorded: RecordedEvent[Any]) -> Any:
        """Get the id of the process that an event is for; None if it is for none.

        Raises:
            ValueError: What the event says is no id of the process.
        """
        reaction = self.reaction(recorded)
        given, id_type = reaction.given_id(recorded), self.definition.id_type
        if given is None or isinstance(given, id_type):
            return given
        text = str(given)
        with suppress(ValueError):
            read = id_type(text)
            if id_type is not int or str(read) == text:  # "1_000" and " 7 " are not how anybody else writes an id
                return read
        raise ValueError(
            f"{type(recorded.event).__name__}.{reaction.by or 'aggregate_id'} is {given!r}, which is no id of "
            f"{self.process_class.__name__}, a {id_type.__name__}"
        )

    def reaction(self, recorded: RecordedEvent[Any]) -> Reaction:
        """Find the method for an event: that of the class nearest to it."""
        return next(self.reactions[each] for each in type(recorded.event).__mro__ if each in self.reactions)


@dataclass(eq=False, kw_only=True)
class ProcessSubscription(Subscription):
    """A process manager that follows a log.

    Attributes:
        process: Its declaration.
    """

    process: DeclaredProcess

    def take(self, recorded: RecordedEvent[Any], session: Session) -> None:
        """Take one event, in the transaction that the checkpoint is written in."""
        process_id = self.process.process_id(recorded)
        if process_id is None:
            return
        stream = (self.name, self.process.definition.text_id(process_id))
        if self.on_error == "park" and park_behind(self._connection(session), self, stream, recorded):
            return
        derived = _DerivedIds(_path(*stream, str(recorded.event_id)))
        if self._has_reacted(session, stream, derived):
            return
        for number in range(1, _RACES + 1):
            try:
                with session.begin_nested():
                    self._react(session, process_id, derived, recorded)
                break
            except ConcurrencyError:  # with the handler of a command that changes the process too
                if number == _RACES:
                    raise

    def parks_under(self, connection: Connection, position: int) -> tuple[str, str] | None:
        """Say for which process an event is; None if that cannot be told, or it is for several: its own stream has to wait."""
        try:
            read = read_events(connection, self.tables.events, [self.tables.events.c.position == position])
            (process_id,) = {self.process.process_id(recorded) for recorded in read if self.takes(recorded)}
            return None if process_id is None else (self.name, self.process.definition.text_id(process_id))
        except BaseException as error:
            if ends_program(error, awaited=connection.dialect.is_async):
                raise
            return None  # that is why it is parked

    def _react(self, session: Session, process_id: Any, derived: _DerivedIds, recorded: RecordedEvent[Any]) -> None:
        """Carry out what follows from an event; nothing does for a process whose stream is closed, or closed and archived."""
        # As it is now: the session may have read it for an event before, and a method need not lead to an event of its own.
        try:
            process = session.get(self.process.process_class, process_id, populate_existing=True)
        except StreamArchivedError:
            return
        if process is None:
            process = self.process.process_class(id=process_id)
        if process.is_stream_closed:
            return
        with event_context(caused_by=recorded):
            for number, each in enumerate(self.process.reaction(recorded).outcome(process, recorded.event)):
                self._carry_out(session, process, each, derived[number], recorded)
        if process.pending_events:
            session.add(process)
            session.flush()

    def _carry_out(
        self, session: Session, process: Any, what: BaseModel | After, derived_id: UUID, recorded: RecordedEvent[Any]
    ) -> None:
        if isinstance(what, DomainEvent):
            process.apply_event(what, event_id=derived_id)
        elif isinstance(what, After):
            schedule_time_out(
                session,
                what.command,
                self.tables,
                at=what.due(recorded),
                key=None if what.key is None else self._key(process, what.key),
                command_id=derived_id,
                process=(self.name, self.process.definition.text_id(process.id)),
            )
        else:
            schedule(session, what, command_id=derived_id, base=type(process))

    def _key(self, process: Any, key: str) -> str:
        """Make a key one of this process; a digest where it would be too long."""
        of_process = _path(self.name, self.process.definition.text_id(process.id), key)
        return of_process if len(of_process) <= MAX_NAME_LENGTH else str(uuid5(_NAMESPACE, of_process))

    def _has_reacted(self, session: Session, stream: tuple[str, str], derived: _DerivedIds) -> bool:
        """Ask whether something that followed from an event is there already."""
        events, commands = self.tables.events, require_table(self.tables)
        ids = derived.first()
        of_process = (events.c.aggregate_type == stream[0], events.c.aggregate_id == stream[1])
        is_there = or_(exists().where(*of_process, events.c.event_id.in_(ids)), exists().where(commands.c.command_id.in_(ids)))
        return bool(self._connection(session).scalar(select(is_there)))

    def _connection(self, session: Session) -> Connection:
        return session.connection(bind_arguments=self.bind_arguments)


def ids_derived_from(process_type: str, process_id: str, event_id: UUID) -> list[UUID]:
    """List the ids of what a process leads to when it reacts to an event, its own events and commands: the first of them.

    Args:
        process_type: The name of the process manager.
        process_id: The process's id, as stored.
        event_id: The event's id.
    """
    return _DerivedIds(_path(process_type, process_id, str(event_id))).first()


def _path(*parts: str) -> str:
    """Join texts so that others never give the same."""
    return "/".join(quote(each, safe="") for each in parts)


class _DerivedIds:
    """The ids of what follows from one event for one process."""

    def __init__(self, source: str) -> None:
        """Keep what they derive from."""
        self._source = source

    def __getitem__(self, number: int) -> UUID:
        return uuid5(_NAMESPACE, f"{self._source}/{number}")

    def first(self) -> list[UUID]:
        """List those that are looked for."""
        return [self[number] for number in range(_LOOKED_FOR)]
