"""One command id used twice at the same moment: one command acts, and whoever waits for it learns the truth, in both orders."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource import (
    AsyncCommands,
    Command,
    CommandIdConflictError,
    Commands,
    Handled,
    Worker,
    command_handler,
    schedule,
)
from tests.commands.ordering import Base, Note
from tests.databases import number_waiting
from tests.waiting import wait_until

TABLE = Base.metadata.tables["commands"]


class Bake(Command[str]):
    """What is handled twice."""

    __command_type__ = "simultaneous.Bake"
    what: str


class Ice(Command[str]):
    """Another one."""

    __command_type__ = "simultaneous.Ice"
    what: str


class BakeAwaited(Command[str]):
    """One whose handler is a coroutine function."""

    __command_type__ = "simultaneous.BakeAwaited"
    what: str


class BurntError(Exception):
    """The handler raises it."""


in_handler, go_on = threading.Event(), threading.Event()
burns: list[str] = []


@pytest.fixture(autouse=True)
def _oven() -> None:
    in_handler.clear()
    go_on.clear()
    burns.clear()


@command_handler(Bake)
def bake(command: Bake, session: Session) -> str:
    """The first one stays in here until it may go on."""
    session.add(Note(text=command.what))
    session.flush()
    if not in_handler.is_set():
        in_handler.set()
        assert go_on.wait(60)
        if burns:
            raise BurntError
    return f"a {command.what}, baked"


@command_handler(Ice)
def ice(command: Ice, session: Session) -> str:
    session.add(Note(text=command.what))
    return f"a {command.what}, iced"


@command_handler(BakeAwaited)
async def bake_awaited(command: BakeAwaited, session: AsyncSession) -> str:
    session.add(Note(text=command.what))
    await session.flush()
    await asyncio.sleep(0)
    return f"a {command.what}, baked {uuid4()}"


def notes(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(Note.text).order_by(Note.id)))


@pytest.fixture(params=["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def leveled(request: pytest.FixtureRequest, postgres_database_url: str) -> Any:
    engine = create_engine(postgres_database_url, isolation_level=request.param)
    yield engine
    engine.dispose()


def while_it_bakes(engine: Engine, first: Any, second: Callable[[], Any]) -> tuple[Future[Any], Future[Any]]:
    """Handle a command that stays in its handler, until another use of its id waits for it."""
    with ThreadPoolExecutor(2) as pool:
        try:
            baking = pool.submit(first)
            assert in_handler.wait(60)
            waiting = pool.submit(second)
            wait_until(lambda: number_waiting(engine), "nobody waits for the other")
        finally:
            go_on.set()
    return baking, waiting


def test_who_waits_for_another_command_under_the_id_is_refused(leveled: Engine) -> None:
    commands, command_id = Commands(sessionmaker(leveled), Base), uuid4()
    first, second = while_it_bakes(
        leveled,
        lambda: commands.handle(Bake(what="tart"), command_id=command_id),
        lambda: commands.handle(Ice(what="tart"), command_id=command_id),
    )
    assert first.result().result == "a tart, baked"
    with pytest.raises(CommandIdConflictError, match=r"another command, a simultaneous\.Bake"):
        second.result()
    assert notes(leveled) == ["tart"]


def test_who_waits_for_other_values_under_the_id_is_refused(leveled: Engine) -> None:
    commands, command_id = Commands(sessionmaker(leveled), Base), uuid4()
    first, second = while_it_bakes(
        leveled,
        lambda: commands.handle(Bake(what="tart"), command_id=command_id),
        lambda: commands.handle(Bake(what="bun"), command_id=command_id),
    )
    assert first.result().result == "a tart, baked"
    with pytest.raises(CommandIdConflictError, match="one with other values"):
        second.result()
    assert notes(leveled) == ["tart"]


@pytest.mark.parametrize("other", [Bake(what="tart"), Ice(what="tart")], ids=["the same", "another"])
def test_who_waits_for_one_that_fails_acts(other: Any, leveled: Engine) -> None:
    commands, command_id = Commands(sessionmaker(leveled), Base), uuid4()
    burns.append("burnt")
    first, second = while_it_bakes(
        leveled,
        lambda: commands.handle(Bake(what="tart"), command_id=command_id),
        lambda: commands.handle(other, command_id=command_id),
    )
    with pytest.raises(BurntError):
        first.result()
    assert not second.result().is_repetition
    assert notes(leveled) == ["tart"]


def test_who_schedules_it_meanwhile_changes_nothing(leveled: Engine) -> None:
    commands, command_id = Commands(sessionmaker(leveled), Base), uuid4()

    def schedule_it(command: Any) -> UUID:
        with Session(leveled) as session:
            scheduled = schedule(session, command, command_id=command_id, base=Base)
            session.commit()
        return scheduled

    first, _ = while_it_bakes(
        leveled, lambda: commands.handle(Bake(what="tart"), command_id=command_id), lambda: outcome(schedule_it, Bake(what="tart"))
    )
    Worker(leveled, Base).run_once()
    assert first.result().result == "a tart, baked"
    with pytest.raises(CommandIdConflictError):
        schedule_it(Ice(what="tart"))
    assert notes(leveled) == ["tart"]


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        return error


@pytest.mark.parametrize("command_class", [BakeAwaited, Ice])
async def test_tasks_of_one_loop_act_once(command_class: Any, async_engine: AsyncEngine) -> None:
    commands, ids = AsyncCommands(async_sessionmaker(async_engine), Base), [uuid4() for _ in range(4)]
    given: list[Handled[Any]] = await asyncio.gather(
        *(commands.handle(command_class(what=str(command_id)), command_id=command_id) for command_id in ids for _ in range(4))
    )
    for command_id in ids:
        of_one = [each for each in given if each.command_id == command_id]
        assert len({each.result for each in of_one}) == 1
        assert sorted(each.is_repetition for each in of_one) == [False, True, True, True]
    async with async_engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(Note)) == len(ids)


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_tasks_with_different_commands_under_an_id_act_once(level: str, postgres_database_url: str) -> None:
    engine = create_async_engine(postgres_database_url, isolation_level=level)
    commands, ids = AsyncCommands(async_sessionmaker(engine), Base), [uuid4() for _ in range(6)]
    kinds: list[Any] = [BakeAwaited(what="tart"), Ice(what="tart")]
    given = await asyncio.gather(
        *(commands.handle(kinds[(number + at) % 2], command_id=each) for number, each in enumerate(ids) for at in range(2)),
        return_exceptions=True,
    )
    for one, other in zip(given[::2], given[1::2], strict=True):
        assert {type(one), type(other)} == {Handled, CommandIdConflictError}
    async with engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(Note)) == len(ids)
    await engine.dispose()
