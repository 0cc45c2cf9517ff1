"""A worker deletes rows that remember what was done long ago, where it is declared for how long they are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AsyncWorker, DeclarationError, EventSourceOptions, Inbox, Worker
from sa_eventsource.mapping import kept_rows, tables_of_base
from tests.waiting import wait_until


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands", commands_kept=timedelta(days=30))


inbox = Inbox(Base, keep=timedelta(days=7))
auditor = Inbox(Base, consumer="auditor")  # which keeps all
tables = tables_of_base("test", Base)
LONG_AGO = datetime.now(UTC) - timedelta(days=31)
LEFT = {"commands": ["done now", "parked", "scheduled"], "inbox": [("", "new"), ("auditor", "old")]}


def fill(connection: Any) -> None:
    assert tables.commands is not None
    for status, moment in (("done", LONG_AGO), ("discarded", LONG_AGO), ("parked", None), ("scheduled", None), ("done now", None)):
        values = {"command_id": uuid4(), "command_type": status, "command_data": {}, "status": status.partition(" ")[0]}
        handled_at = datetime.now(UTC) if status == "done now" else moment
        connection.execute(insert(tables.commands).values(**values, handled_at=handled_at))
    for consumer, message_id, moment in (("", "old", LONG_AGO), ("", "new", datetime.now(UTC)), ("auditor", "old", LONG_AGO)):
        connection.execute(insert(inbox.table).values(consumer=consumer, source="", message_id=message_id, handled_at=moment))


def left(connection: Any) -> dict[str, Any]:
    assert tables.commands is not None
    return {
        "commands": sorted(connection.scalars(select(tables.commands.c.command_type))),
        "inbox": sorted(map(tuple, connection.execute(select(inbox.table.c.consumer, inbox.table.c.message_id)))),
    }


@pytest.fixture
def filled(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr("sa_eventsource.workers.pruning.AT_A_TIME", 1)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        fill(connection)
    return engine


def _left(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return left(connection)


def test_a_worker_keeps_what_is_not_old(filled: Engine) -> None:
    assert Worker(filled, Base).names == ("commands", "pruning")
    Worker(filled, Base, only=["pruning"]).run_once()
    assert _left(filled) == LEFT


def test_a_worker_does_it_by_itself(filled: Engine) -> None:
    with Worker(filled, Base), Worker(filled, Base):
        wait_until(lambda: _left(filled) == LEFT)


async def test_an_async_worker_does_it_too(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.run_sync(fill)
    async with AsyncWorker(async_sessionmaker(async_engine), Base):
        found = None
        while found != LEFT:
            async with async_engine.connect() as connection:
                found = await connection.run_sync(left)


def lose_the_first_table(connection: Any) -> None:
    """The one that is pruned first: what is the matter with it must not keep the others from it."""
    first, second = (each.table for each in kept_rows(Base.metadata))
    assert (first, second) == (tables.commands, inbox.table)
    first.drop(connection)


def messages_left(connection: Any) -> list[tuple[str, str]]:
    return sorted(map(tuple, connection.execute(select(inbox.table.c.consumer, inbox.table.c.message_id))))


SAID = "old rows could not be deleted from commands"


def test_what_cannot_be_pruned_ends_no_worker(filled: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with filled.begin() as connection:
        lose_the_first_table(connection)

    def is_pruned() -> bool:
        with filled.connect() as connection:
            return messages_left(connection) == LEFT["inbox"]

    with Worker(filled, Base, only=["pruning"]) as worker:
        wait_until(is_pruned)
        assert worker.error is None
    assert SAID in caplog.text


def test_nor_a_run_that_is_the_only_one(filled: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with filled.begin() as connection:
        lose_the_first_table(connection)
    Worker(filled, Base, only=["pruning"]).run_once()
    assert SAID in caplog.text
    with filled.connect() as connection:
        assert messages_left(connection) == LEFT["inbox"]


async def test_nor_an_async_worker(async_engine: AsyncEngine, caplog: pytest.LogCaptureFixture) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.run_sync(fill)
        await connection.run_sync(lose_the_first_table)
    async with AsyncWorker(async_sessionmaker(async_engine), Base, only=["pruning"]):
        found = None
        while found != LEFT["inbox"]:
            async with async_engine.connect() as connection:
                found = await connection.run_sync(messages_left)
    assert SAID in caplog.text


@pytest.mark.parametrize("keep", [timedelta(0), timedelta(-1), 30])
@pytest.mark.parametrize("declare", [lambda keep: EventSourceOptions(commands_kept=keep), lambda keep: Inbox(Base, keep=keep)])
def test_a_time_is_wanted(keep: Any, declare: Callable[[Any], object]) -> None:
    with pytest.raises(DeclarationError, match="must be a timedelta above 0"):
        declare(keep)


def test_nothing_is_pruned_where_nothing_is_declared(engine: Engine) -> None:
    class Forever(DeclarativeBase):
        __eventsource__ = EventSourceOptions(commands="commands")

    assert Worker(engine, Forever).names == ("commands",)


def test_an_inbox_is_pruned_by_the_database_s_clock(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        assert auditor(session, str(UUID(int=1)))
        session.commit()
        assert auditor.prune(session, older_than=timedelta.max) == 0
        assert auditor.prune(session, older_than=timedelta(0)) == 1
