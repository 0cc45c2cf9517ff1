"""An actor of a run: where it stands, and the gate at which it stops before each of its steps."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from sa_eventsource.testing.races.race_steps import LETTERS, StepKind

if TYPE_CHECKING:
    import asyncio
    from queue import SimpleQueue

    from sa_eventsource.testing.races.race_steps import Happening
    from sa_eventsource.testing.races.touched import Transaction


class ActorAbandoned(BaseException):
    """Ends an actor whose run is over. No ``except Exception`` of the application's takes it for an error."""


class State(Enum):
    """Where an actor stands."""

    RUNNING = auto()
    """In Python, or in a statement that the database is at work on."""
    PARKED = auto()
    """Before a step, until its next turn."""
    WAITING = auto()
    """In a statement that waits for a lock of another actor's."""
    RESUMED = auto()
    """Behind such a statement."""
    FINISHED = auto()


@dataclass(frozen=True, slots=True)
class Request:
    """What an actor is about to do."""

    kind: StepKind
    text: str
    parameters: Any
    transaction: Transaction
    takes_snapshot: bool


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where an actor has come to.

    Attributes:
        actor: The actor.
        state: PARKED, RESUMED or FINISHED.
    """

    actor: ScheduledActor
    state: State
    request: Request | None = None


class Gate:
    """Holds one thread."""

    def __init__(self) -> None:
        """Begin closed."""
        self._closed = threading.Semaphore(0)

    def wait(self) -> None:
        """Wait until it is opened, once."""
        self._closed.acquire()

    def open(self) -> None:
        """Let the one through that waits, or that comes next."""
        self._closed.release()


class AsyncGate:
    """Holds one task, in the greenlet that SQLAlchemy has for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin closed.

        Args:
            loop: Whose task it holds.
        """
        self._loop = loop
        self._opened: asyncio.Future[None] | None = None

    def prepare(self) -> None:
        """Close it, in the task's loop, before anyone is told that the task waits."""
        self._opened = self._loop.create_future()

    def wait(self) -> None:
        """Wait until it is opened; other tasks of the loop go on."""
        if self._opened is not None:
            await_only(self._opened)

    def open(self) -> None:
        """Let the task through."""
        opened = self._opened

        def release() -> None:
            if opened is not None and not opened.done():
                opened.set_result(None)

        self._loop.call_soon_threadsafe(release)


@dataclass(slots=True, eq=False)
class ScheduledActor:
    """One actor in one run.

    Attributes:
        number: Its number, from 0.
        arrivals: Where it says that it has come to a stop.
        gate: Where it stops.
        state: Where it stands, as its scheduler knows.
        request: What it is about to do, while it is parked.
        happening: Its step under way, or its last one.
        steps: How many steps it has made.
        transactions: Its transactions in progress, by the number of the server process.
        begun: Server processes in whose sessions SQLAlchemy has begun a transaction, which may have sent nothing yet.
        ending: The server process that its last commit or rollback was sent to.
        is_abandoned: Whether it is to end at its next stop.
        value: What it returned.
        error: What it raised.
        has_begun: Whether it was started.
        thread: What it runs in, if that is a thread of its own.
    """

    number: int
    arrivals: SimpleQueue[Arrival]
    gate: Gate | AsyncGate
    state: State = State.RUNNING
    request: Request | None = None
    happening: Happening | None = None
    steps: int = 0
    transactions: dict[int, Transaction] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    ending: int | None = None
    is_abandoned: bool = False
    value: Any = None
    error: BaseException | None = None
    has_begun: bool = False
    thread: threading.Thread | None = None

    @property
    def letter(self) -> str:
        """Its name in schedules."""
        return LETTERS[self.number]

    @property
    def pids(self) -> set[int]:
        """The server processes that it uses now; what it has given back to the pool, another actor may have."""
        pids = self.begun.union(self.transactions)
        if self.ending is not None and self.state in (State.RUNNING, State.WAITING):
            pids.add(self.ending)
        return pids

    def park(self, request: Request) -> None:
        """Stop before a step; called by the actor itself.

        Raises:
            ActorAbandoned: The run is over, and the step is no rollback.
        """
        try:
            self._stop(Arrival(self, State.PARKED, request))
        except ActorAbandoned:
            if request.kind is not StepKind.ROLLBACK:
                raise

    def come_back(self, error: str | None = None, *, is_deadlock: bool = False) -> None:
        """Note that a statement is done, and stop if it had to wait; called by the actor itself.

        Raises:
            ActorAbandoned: The run is over.
        """
        if self.happening is not None and error is not None:
            self.happening.error = error
            self.happening.is_deadlock = is_deadlock
        if self.state is State.WAITING or self.is_abandoned:
            self._stop(Arrival(self, State.RESUMED))

    def finish(self) -> None:
        """Note that the actor has ended; called as the last thing that it does."""
        self.arrivals.put(Arrival(self, State.FINISHED))

    def _stop(self, arrival: Arrival) -> None:
        if arrival.state is State.PARKED:
            self.ending = None
        if isinstance(self.gate, AsyncGate):
            self.gate.prepare()  # before the look: whoever abandons the actor opens the gate afterwards
        if self.is_abandoned:
            raise ActorAbandoned
        self.arrivals.put(arrival)
        self.gate.wait()
        if self.is_abandoned:
            raise ActorAbandoned

    def go_on(self) -> None:
        """Let it go on from where it has stopped; called by the scheduler."""
        self.state = State.RUNNING
        self.gate.open()

    @property
    def has_ended(self) -> bool:
        """Whether it has said so, or its thread is gone: an interrupt may have come just as its scheduler was about to note it."""
        return self.state is State.FINISHED or (self.thread is not None and not self.thread.is_alive())

    def abandon(self) -> None:
        """Have it end at its next stop, or where it stands; called by the scheduler."""
        self.is_abandoned = True
        # In any state: an interrupt may have come just as its scheduler was about to note that it has stopped.
        self.gate.open()


CURRENT: ContextVar[ScheduledActor | None] = ContextVar("sa_eventsource.races.actor", default=None)
"""The actor that the present thread or task runs."""
