"""``races`` and ``async_races``."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import UnboundExecutionError

from sa_eventsource.arguments import whole_number
from sa_eventsource.exceptions import JoinedTransactionError
from sa_eventsource.mapping import async_session_maker, session_maker
from sa_eventsource.store import database_of
from sa_eventsource.testing.races.exploration import Exploration, Legal, RaceReport
from sa_eventsource.testing.races.race_steps import LETTERS
from sa_eventsource.testing.races.stages import Race, TaskStage, ThreadStage
from sa_eventsource.testing.races.turn_taking import Limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
    from sqlalchemy.orm import Session, sessionmaker

T = TypeVar("T")


def races(  # noqa: PLR0913 - most of them are options
    setup: Callable[[Session], T],
    actors: Sequence[Callable[[Session, T], Any]],
    *,
    invariant: Callable[..., Any],
    sessions: Engine | sessionmaker[Session],
    expected: type[BaseException] | tuple[type[BaseException], ...] = (),
    conflicts_are_legal: bool = True,
    deadlocks_are_legal: bool = True,
    schedules: int = 1000,
    seed: int = 0,
    schedule: str | None = None,
    step_timeout: float = 10.0,
    max_steps: int = 500,
) -> RaceReport:
    """Run actors against each other in all orders of their statements and commits, and look for one that breaks the invariant.

    Each actor has a session and a thread of its own, stops before each statement, commit and rollback that goes to the engine,
    and goes on when it is its turn. Orders that cannot be told apart, as their steps touch different tables, say, are run once.
    What is found is made as short as possible, and reported as a table of who did what when.

    All of it is committed, on the server that *sessions* name. Every run begins with *setup*, which makes what the actors work
    on under ids of its own; what earlier runs have left is still there.

    Args:
        setup: Makes the state to begin from, and returns what the actors need to know of it, such as ids. Its session is
            committed.
        actors: Two or more functions, up to eight, which get a session and what *setup* has returned. An actor commits by
            itself, and may use further sessions on the same engine. The same function may come several times.
        invariant: What must hold when all have ended: gets a new session and what *setup* has returned, and, if it has a third
            parameter, a tuple of :class:`ActorOutcome`, one for each actor. It raises, as by ``assert``, or returns False, if it
            does not hold.
        sessions: An engine of PostgreSQL, or what makes sessions that are bound to one.
        expected: Errors of the application's with which an actor may end.
        conflicts_are_legal: Whether an actor may end with ``ConcurrencyError``, a serialization failure or as the victim of a
            deadlock.
        deadlocks_are_legal: Whether actors may deadlock at all, also where they recover.
        schedules: How many schedules to run at most. Where there are more, those with few switches between actors are run
            first, for half of that number, and the others are drawn at random.
        seed: What is drawn with: the same seed gives the same schedules.
        schedule: Run this one schedule only: a letter a step, A for the first actor, as :class:`~sa_eventsource.RaceFoundError`
            gives it.
        step_timeout: Seconds until an actor must have come to its next statement, or to its end.
        max_steps: How many steps a run may have.

    Returns:
        How much was run.

    Raises:
        RaceFoundError: The invariant does not hold, an actor failed with an error that is not expected, or, where they are not
            legal, actors deadlocked. It is an ``AssertionError``.
        ActorHungError: An actor does not come back, or waits for what no actor can give it.
        ScheduleError: *schedule* cannot be followed.
        StrayStatementError: A statement came to the engine from elsewhere.
        JoinedTransactionError: The sessions are bound to a connection that is in a transaction. Pass the engine.
        TypeError: One of the functions is a coroutine function.
        ValueError: There are fewer than two actors or more than eight, the database is not PostgreSQL, or sessions are bound to
            several engines.
    """
    makes_sessions = session_maker("races()", sessions)
    with makes_sessions() as session:
        engine = _engine_of(_bind_of(session, makes_sessions))
    check_letters(actors)
    for each in (setup, *actors, invariant):
        if inspect.iscoroutinefunction(each):
            raise TypeError(f"{_name(each)}() is a coroutine function, which races() does not await; use async_races()")
    legal, limits = _limits(expected, conflicts_are_legal, deadlocks_are_legal, step_timeout, max_steps)
    number = whole_number("schedules", schedules, minimum=1, meaning="how many schedules to run at most, 1 or more")
    stage = ThreadStage(engine, Race(makes_sessions, setup, actors, invariant))
    try:
        return Exploration(stage, [_name(each) for each in actors], legal, limits).run(number, seed, schedule)
    finally:
        stage.close()


async def async_races(  # noqa: PLR0913 - as races
    setup: Callable[[AsyncSession], Awaitable[T]],
    actors: Sequence[Callable[[AsyncSession, T], Awaitable[Any]]],
    *,
    invariant: Callable[..., Awaitable[Any]],
    sessions: async_sessionmaker[AsyncSession],
    expected: type[BaseException] | tuple[type[BaseException], ...] = (),
    conflicts_are_legal: bool = True,
    deadlocks_are_legal: bool = True,
    schedules: int = 1000,
    seed: int = 0,
    schedule: str | None = None,
    step_timeout: float = 10.0,
    max_steps: int = 500,
) -> RaceReport:
    """Do what :func:`races` does, with coroutine functions.

    Each actor has an ``AsyncSession`` and a task of its own in the running event loop, and awaits one statement at a time.
    """
    makes_sessions = async_session_maker("async_races()", sessions, instead="races()")
    async with makes_sessions() as session:
        engine = _async_engine_of(session)
    check_letters(actors)
    legal, limits = _limits(expected, conflicts_are_legal, deadlocks_are_legal, step_timeout, max_steps)
    number = whole_number("schedules", schedules, minimum=1, meaning="how many schedules to run at most, 1 or more")
    stage = TaskStage(engine, Race(makes_sessions, setup, actors, invariant))

    def explore() -> RaceReport:
        try:
            stage.open()
            return Exploration(stage, [_name(each) for each in actors], legal, limits).run(number, seed, schedule)
        finally:
            stage.close()

    exploring = asyncio.ensure_future(asyncio.to_thread(explore))
    try:
        return await asyncio.shield(exploring)
    except asyncio.CancelledError:
        stage.cancel()
        await asyncio.wait([exploring])
        exploring.exception()  # it was given up: nobody asks for how
        raise


def _limits(
    expected: type[BaseException] | tuple[type[BaseException], ...],
    conflicts_are_legal: bool,  # noqa: FBT001 - private
    deadlocks_are_legal: bool,  # noqa: FBT001
    step_timeout: float,
    max_steps: int,
) -> tuple[Legal, Limits]:
    errors = expected if isinstance(expected, tuple) else (expected,)
    steps = whole_number("max_steps", max_steps, minimum=1, meaning="how many steps a run may have, 1 or more")
    return Legal(errors, conflicts_are_legal, deadlocks_are_legal), Limits(step_timeout, steps)


def check_letters(actors: Sequence[Any]) -> None:
    """Refuse too few actors, and more than there are letters.

    Raises:
        ValueError: So it is.
    """
    if not 2 <= len(actors) <= len(LETTERS):  # noqa: PLR2004 - one alone has no race
        raise ValueError(f"races() takes two to {len(LETTERS)} actors, not {len(actors)}")


def _bind_of(session: Session, makes_sessions: Any) -> Any:
    """Get what sessions are bound to, as a whole or by class.

    Raises:
        UnboundExecutionError: To nothing.
        ValueError: To several engines: only one is listened to.
    """
    try:
        return session.get_bind()
    except UnboundExecutionError:
        binds = set(getattr(makes_sessions, "kw", {}).get("binds", {}).values())
        if not binds:
            raise
    if len(binds) > 1:
        raise ValueError(f"races() takes sessions on one engine, and these are bound to {len(binds)}")
    return binds.pop()


def _engine_of(bind: Any) -> Engine:
    if not isinstance(bind, Engine):
        raise JoinedTransactionError(repr(bind.engine.url))
    if database_of(bind.dialect).has_one_writer:
        raise ValueError("races() needs PostgreSQL: a database that has one writer at a time has no races between them")
    return bind


def _async_engine_of(session: AsyncSession) -> AsyncEngine:
    _engine_of(session.get_bind())
    bind: Any = session.bind
    return bind  # type: ignore[no-any-return]


def _name(actor: Any) -> str:
    while isinstance(actor, functools.partial):
        actor = actor.func
    return str(getattr(actor, "__name__", None) or type(actor).__name__)
