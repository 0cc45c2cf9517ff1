"""The steps of a scenario: a function of the aggregate is called, a command handled, time passes."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sa_eventsource.aggregates import AggregateDefinition, AggregateRoot, books_of, definition_of
from sa_eventsource.application_errors import ends_program
from sa_eventsource.clock import frozen_at
from sa_eventsource.commands import Attempt, handler_of
from sa_eventsource.events import EventContext
from sa_eventsource.extras import needs_extra
from sa_eventsource.plain_functions import check_ran, takes
from sa_eventsource.processes import After
from sa_eventsource.testing.memory_session import MemorySession
from sa_eventsource.time_ordered_ids import ids_made_by, uuid7

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from pydantic import BaseModel
    from sqlalchemy.ext.asyncio import AsyncSession

    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.testing.recording import MemoryLog

FIRST_IDS = {str: "1", int: "1", UUID: "00000000-0000-7000-8000-000000000001"}
"""The id of an aggregate in a test that does not say which, as stored, by the type of ids."""


@dataclass(slots=True)
class Acting:
    """What a scenario has come to.

    Attributes:
        aggregate_class: The class that it is about.
        text_id: The id of the aggregate, as stored; None if the test has not said which.
        now: Which moment it is.
        log: What was recorded.
        new: What the last step recorded.
        issued: The commands that the last step sent or put off.
        timers: The commands that are put off: when each is due, and under which key.
        result: What the last step returned.
        error: What it raised.
        present: The aggregate that it was done with, as it is left.
    """

    aggregate_class: type[Any]
    text_id: str | None
    now: datetime
    log: MemoryLog
    new: list[RecordedEvent[Any]] = field(default_factory=list)
    issued: list[BaseModel | After] = field(default_factory=list)
    timers: list[tuple[datetime, str | None, BaseModel]] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None
    present: Any = None

    @property
    def definition(self) -> AggregateDefinition:
        """What the library knows of the class."""
        return definition_of(self.aggregate_class)

    @property
    def stream(self) -> tuple[str, str]:
        """Type and id of the aggregate, as stored."""
        return self.definition.aggregate_type, self.text_id or FIRST_IDS[self.definition.id_type]

    def copy(self) -> Acting:
        """Make one that goes its own way from here."""
        return Acting(
            self.aggregate_class,
            self.text_id,
            self.now,
            self.log.copy(),
            list(self.new),
            list(self.issued),
            list(self.timers),
            self.result,
            self.error,
            self.present,
        )

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have the library's clock stand still within the block, and its ids be the same in every run."""
        with frozen_at(self.now), ids_made_by(self.log.ids.at(self.now)):
            yield

    def subject(self) -> Any:
        """Make the aggregate as it would be loaded; a new one if it has no events."""
        _, text_id = self.stream
        loaded = self.log.load(self.aggregate_class, text_id)
        return self.aggregate_class(id=self.definition.typed_id(text_id)) if loaded is None else loaded

    def keep(self, aggregates: Sequence[Any]) -> None:
        """Record what aggregates have applied, in the order in which it was applied."""
        applied, order = [], self.log.ids.order
        for aggregate in aggregates:
            number = 0
            for each in books_of(aggregate).pending:
                number = order.get(each.event_id, number)  # one that the application has given follows the one before
                applied.append((number, aggregate, each))
        for _, aggregate, each in sorted(applied, key=lambda entry: entry[0]):
            definition = definition_of(type(aggregate))
            stream = definition.aggregate_type, definition.text_id(vars(aggregate)["id"])
            context = EventContext(each.correlation_id, each.causation_id, each.metadata)
            self.new.append(self.log.record(stream, each.event, each.occurred_at, event_id=each.event_id, context=context))
            if self.text_id is None and type(aggregate) is self.aggregate_class and not self.log.has(self.stream):
                self.text_id = stream[1]

    def put_off(self, command: BaseModel, due: datetime, key: str | None) -> None:
        """Have a command sent later; it replaces one under the same key."""
        self.timers = [each for each in self.timers if key is None or each[1] != key]
        self.timers.append((due, key, command))
        self.issued.append(After(due - self.now, command, key))

    def pass_time(self, delay: timedelta) -> None:
        """Go on to a later moment, and send what comes due."""
        self.now += delay
        due = sorted((each for each in self.timers if each[0] <= self.now), key=lambda each: each[0])
        self.timers = [each for each in self.timers if each[0] > self.now]
        self.new, self.issued, self.result, self.error = [], [command for _, _, command in due], None, None


def perform(acting: Acting, action: Callable[..., Any]) -> None:
    """Call a function of the aggregate, or one that makes an aggregate."""
    subject = None
    try:
        if takes(action, 0):
            acting.result = action()
        else:
            subject = acting.subject()
            acting.result = action(subject)
        check_ran(
            "the function", acting.result, "Write a plain function; a command that has to be awaited is tested by its handler."
        )
    except BaseException as error:
        if ends_program(error):
            raise
        acting.error = error
    made = None if acting.result is subject else acting.result
    aggregates = [each for each in (subject, made) if isinstance(each, AggregateRoot)]
    acting.present = next((each for each in reversed(aggregates) if type(each) is acting.aggregate_class), None)
    if acting.error is None:
        acting.keep(aggregates)


def handle(acting: Acting, command: BaseModel) -> list[Any]:
    """Have the declared handler of a command take it, in a session without a database; give the aggregates that it worked with."""
    tables = acting.definition.tables
    attempt = Attempt(handler_of(command, tables), command, uuid7(), tables, is_kept=False)

    def catch(command: BaseModel, due: datetime | timedelta, key: str | None) -> None:
        moment = acting.now + due if isinstance(due, timedelta) else due
        if moment > acting.now:
            acting.put_off(command, moment, key)
        else:
            acting.issued.append(command)

    timers = list(acting.timers)
    aggregates: list[Any] = []
    session: Any = MemorySession(log=acting.log, catch=catch)
    try:
        with attempt.context(session):
            if attempt.handler.is_coroutine_function:
                acting.result = _awaited(attempt, _async_session(session))
            else:
                acting.result = attempt.handler.call(command, session)
    except BaseException as error:
        if ends_program(error):
            raise
        acting.error, acting.issued, acting.timers = error, [], timers
    else:
        aggregates = session.aggregates()
        acting.keep(aggregates)
    finally:
        acting.present = None
        session.close()
    return aggregates


def _async_session(session: MemorySession) -> AsyncSession:
    with needs_extra("async", part="a handler that is a coroutine function"):
        asynchronous = import_module("sqlalchemy.ext.asyncio")  # which needs greenlet
    made: AsyncSession = asynchronous.AsyncSession(sync_session_class=lambda **_: session)
    return made


def _awaited(attempt: Attempt, session: AsyncSession) -> Any:
    """Run a handler that is a coroutine function to its end, in a thread of its own: this one may have a running loop."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((asyncio.run(attempt.handler.function(attempt.command, session)), None))
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            outcome.append((None, error))

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,))
    thread.start()
    thread.join()
    ((result, error),) = outcome
    if error is not None:
        raise error
    return result
