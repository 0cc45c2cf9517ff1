"""How far the tree has come is told, with what has yet to come, and is a problem where nobody puts events there."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from sa_eventsource import DeclarationError, async_tree_status, tree_status
from tests import orders
from tests.cli.commands import call, succeed
from tests.integrity.proven_log import BASE, Base, fill, grow


def test_it_tells_how_far_the_tree_has_come(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        nothing = tree_status(session, base=Base)
        assert (nothing.tree_size, nothing.last_position, nothing.made_at, nothing.lag_events) == (0, 0, None, 0)
        assert nothing.problems(max_lag_seconds=0) == []
    fill(engine, 7)
    grow(engine)
    fill(engine, 2, accounts=1)
    with Session(engine) as session:
        found = tree_status(session, base=Base)
    assert (found.tree_size, found.key_id, found.lag_events) == (7, "first", 2)
    assert found.last_position >= 7
    assert found.made_at is not None
    assert 0 < found.lag_seconds < 60
    assert found.problems() == []
    (problem,) = found.problems(max_lag_seconds=0)
    assert problem.startswith("2 events are not in the Merkle tree, the oldest for ")
    grow(engine)
    with Session(engine) as session:
        assert tree_status(session, base=Base).problems(max_lag_seconds=0) == []


async def test_an_asynchronous_session_is_told(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        assert (await async_tree_status(session, base=Base)).tree_size == 0


def test_a_base_without_proofs_is_refused(sqlite_engine: Engine) -> None:
    with Session(sqlite_engine) as session, pytest.raises(DeclarationError, match="has no proofs"):
        tree_status(session, base=orders.Base)


def test_the_command_line_shows_it(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    assert "Merkle tree: no event yet; 0 events are to come" in succeed("status", BASE, engine=engine).stdout
    fill(engine, 3)
    grow(engine)
    assert "Merkle tree: 3 events, up to position " in (printed := succeed("status", BASE, engine=engine).stdout)
    assert "none is to come" in printed
    document = json.loads(succeed("status", BASE, "--json", engine=engine).stdout)
    assert (document["proofs"]["tree_size"], document["proofs"]["lag_events"]) == (3, 0)


def test_events_that_wait_for_more_than_a_minute_are_a_problem(sqlite_engine: Engine) -> None:
    Base.metadata.create_all(sqlite_engine)
    fill(sqlite_engine, 3)
    assert call("status", BASE, engine=sqlite_engine).exit_code == 0
    result = call("status", BASE, "--max-lag", "0", engine=sqlite_engine)
    assert result.exit_code == 1
    assert "3 events are not in the Merkle tree, the oldest for " in result.stdout
