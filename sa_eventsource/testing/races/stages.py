"""Where actors run: threads with a session each, or tasks of an event loop with an ``AsyncSession`` each."""

from __future__ import annotations

import asyncio
import inspect
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sa_eventsource.testing.races.lock_watch import LockWatch
from sa_eventsource.testing.races.scheduled_actors import CURRENT, ActorAbandoned, AsyncGate, Gate, ScheduledActor
from sa_eventsource.testing.races.stops import Stops

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from concurrent.futures import Future
    from queue import SimpleQueue

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from sa_eventsource.testing.races.race_steps import ActorOutcome
    from sa_eventsource.testing.races.scheduled_actors import Arrival


@dataclass(slots=True)
class Race:
    """What the application has given; of :func:`async_races`, what returns something to await.

    Attributes:
        sessions: Makes a session.
        setup: Makes a state to begin from.
        actors: What runs at the same time.
        invariant: What must hold in the end.
        takes_outcomes: Whether it asks how the actors have ended.
    """

    sessions: Callable[[], Any]
    setup: Callable[..., Any]
    actors: Sequence[Callable[..., Any]]
    invariant: Callable[..., Any]

    takes_outcomes: bool = field(init=False)

    def __post_init__(self) -> None:
        """See whether the invariant has a third parameter, for the actors' outcomes."""
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(self.invariant).parameters.values()
        needed = sum(each.kind in positional and each.default is inspect.Parameter.empty for each in parameters)
        self.takes_outcomes = needed > 2  # noqa: PLR2004

    def judged(self, session: Any, context: Any, outcomes: Sequence[ActorOutcome]) -> Any:
        """Call the invariant."""
        return self.invariant(session, context, *([outcomes] if self.takes_outcomes else []))


class ThreadStage:
    """Runs each actor in a thread of its own."""

    def __init__(self, engine: Engine, race: Race) -> None:
        """Take what the application has given."""
        self._race = race
        self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self.stops = Stops(engine)
        self.watch = LockWatch(self)

    def close(self) -> None:
        """Give the connection back that PostgreSQL was asked on."""
        self._connection.close()

    def prepare(self) -> Any:
        """Have setup make a state to begin from, and commit it."""
        with self._race.sessions() as session:
            context = self._race.setup(session)
            if session.autobegin or session.in_transaction():
                session.commit()
            return context

    def judge(self, context: Any, outcomes: Sequence[ActorOutcome]) -> Any:
        """Call the invariant."""
        with self._race.sessions() as session:
            return self._race.judged(session, context, outcomes)

    def actor(self, number: int, arrivals: SimpleQueue[Arrival]) -> ScheduledActor:
        """Make an actor that has not begun."""
        return ScheduledActor(number, arrivals, Gate())

    def start(self, actor: ScheduledActor, context: Any) -> None:
        """Have an actor begin."""
        name = f"races actor {actor.letter}"
        actor.thread = threading.Thread(target=self._act, args=(actor, context), name=name, daemon=True)
        actor.thread.start()

    def interrupt(self, actor: ScheduledActor) -> None:
        """Do nothing: a thread cannot be ended from outside."""

    def check_cancelled(self) -> None:
        """Do nothing: an interrupt comes by itself."""

    def ask(self, query: str) -> Sequence[Sequence[Any]]:
        """Run a query alongside the actors."""
        return asked(self._connection, query)

    def _act(self, actor: ScheduledActor, context: Any) -> None:
        CURRENT.set(actor)
        try:
            with self._race.sessions() as session:
                actor.value = self._race.actors[actor.number](session, context)
        except ActorAbandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - whoever runs the schedule says what happens to it
            actor.error = error
        finally:
            actor.finish()


class TaskStage:
    """Runs each actor in a task of an event loop; the schedule is followed in another thread than the loop's."""

    def __init__(self, engine: AsyncEngine, race: Race) -> None:
        """Take what the application has given; call :meth:`open` next, in the thread that follows schedules."""
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._race = race
        self._connection: AsyncConnection | None = None
        self._tasks: dict[ScheduledActor, Future[None]] = {}
        self._is_cancelled = False
        self.stops = Stops(engine.sync_engine)

    def open(self) -> None:
        """Connect."""
        self._connection = self._wait_for(self._connect())
        self.watch = LockWatch(self)

    async def _connect(self) -> AsyncConnection:
        connection = await self._engine.connect()
        return await connection.execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Give the connection back that PostgreSQL was asked on."""
        if self._connection is not None:
            self._wait_for(self._connection.close())

    def cancel(self) -> None:
        """Have the run given up; from the loop's thread."""
        self._is_cancelled = True

    def check_cancelled(self) -> None:
        """Raise if nobody waits for the run any more.

        Raises:
            ActorAbandoned: That is so.
        """
        if self._is_cancelled:
            raise ActorAbandoned

    def prepare(self) -> Any:
        """Have setup make a state to begin from, and commit it."""
        return self._wait_for(self._prepare())

    async def _prepare(self) -> Any:
        async with self._race.sessions() as session:
            context = await _awaited(self._race.setup(session))
            if session.sync_session.autobegin or session.in_transaction():
                await session.commit()
            return context

    def judge(self, context: Any, outcomes: Sequence[ActorOutcome]) -> Any:
        """Call the invariant."""
        return self._wait_for(self._judge(context, outcomes))

    async def _judge(self, context: Any, outcomes: Sequence[ActorOutcome]) -> Any:
        async with self._race.sessions() as session:
            return await _awaited(self._race.judged(session, context, outcomes))

    def actor(self, number: int, arrivals: SimpleQueue[Arrival]) -> ScheduledActor:
        """Make an actor that has not begun."""
        self._tasks = {each: task for each, task in self._tasks.items() if not task.done()}
        return ScheduledActor(number, arrivals, AsyncGate(self._loop))

    def start(self, actor: ScheduledActor, context: Any) -> None:
        """Have an actor begin."""
        self._tasks[actor] = asyncio.run_coroutine_threadsafe(self._act(actor, context), self._loop)

    def interrupt(self, actor: ScheduledActor) -> None:
        """Cancel the actor's task."""
        self._tasks[actor].cancel()

    def ask(self, query: str) -> Sequence[Sequence[Any]]:
        """Run a query alongside the actors."""
        assert self._connection is not None  # noqa: S101 - it is open
        return self._wait_for(self._connection.run_sync(asked, query))  # type: ignore[no-any-return]

    async def _act(self, actor: ScheduledActor, context: Any) -> None:
        CURRENT.set(actor)
        try:
            async with self._race.sessions() as session:
                actor.value = await _awaited(self._race.actors[actor.number](session, context))
        except ActorAbandoned:
            pass
        except BaseException as error:  # noqa: BLE001 - whoever runs the schedule says what happens to it
            actor.error = error
        finally:
            actor.finish()

    def _wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def asked(connection: Connection, query: str) -> Sequence[Sequence[Any]]:
    """Run a query on the driver's own cursor: no listener hears of it."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(query)
        return cursor.fetchall()
    finally:
        cursor.close()


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
