"""Each library that is measured does the work that its figures are about. Peers take part where they are installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from benchmarks.peers.contender import Contender, Entry, present
from benchmarks.peers.measures import LINES, appends_in_processes, appends_in_threads, delays, fill, following

pytestmark = pytest.mark.filterwarnings("default")  # peers have warnings of their own


@pytest.fixture(params=present().values(), ids=[*present()])
def entry(request: pytest.FixtureRequest) -> Entry:
    found: Entry = request.param
    return found


@pytest.fixture
def contender(entry: Entry, postgres_engine: Engine) -> Iterator[Contender]:
    with closing(entry.open(postgres_engine.url, 4)) as opened:
        opened.create_tables()
        yield opened


def rows(engine: Engine, contender: Contender) -> dict[str, tuple[int, Decimal]]:
    with engine.connect() as connection:
        found = connection.execute(text(f"SELECT id, lines, total FROM {contender.view}"))
        return {each.id: (each.lines, each.total) for each in found}


def expected(*orders: Any, lines: int) -> dict[str, tuple[int, Decimal]]:
    return {str(order): (lines, lines * Decimal("12.50")) for order in orders}


def test_catching_up_takes_what_was_appended_and_only_that(contender: Contender, postgres_engine: Engine) -> None:
    first = contender.append(3)
    contender.catch_up()
    assert rows(postgres_engine, contender) == expected(first, lines=3)
    second = contender.append(3)
    contender.catch_up()
    contender.catch_up()
    assert rows(postgres_engine, contender) == expected(first, second, lines=3)


def test_a_rebuild_and_a_catch_up_from_the_beginning_make_the_same_rows(contender: Contender, postgres_engine: Engine) -> None:
    fill(contender, 5 * LINES)
    contender.catch_up()
    caught_up = rows(postgres_engine, contender)
    assert len(caught_up) == 5
    assert set(caught_up.values()) == set(expected("any", lines=LINES).values())
    contender.rebuild()
    assert rows(postgres_engine, contender) == caught_up
    contender.forget()
    assert rows(postgres_engine, contender) == {}
    contender.catch_up()
    assert rows(postgres_engine, contender) == caught_up


@pytest.mark.slow
def test_the_follower_shows_each_commit(entry: Entry, contender: Contender, postgres_engine: Engine) -> None:
    with following(entry.name, postgres_engine.url):
        found = delays(contender, postgres_engine.url, samples=5, rate_beside=5)
    assert len(found) == 5
    assert all(each > 0 for each in found)
    assert len(rows(postgres_engine, contender)) > 5, "what was committed beside is there too"


@pytest.mark.slow
def test_the_rate_of_appending_is_that_of_commits_in_the_log(entry: Entry, contender: Contender, postgres_engine: Engine) -> None:
    in_threads = appends_in_threads(contender, writers=2, seconds=0.5)
    contender.catch_up()
    appended = len(rows(postgres_engine, contender)) - 2  # each writer's first one is not counted
    assert appended / 2 < in_threads <= appended / 0.5
    in_processes = appends_in_processes(entry.name, postgres_engine.url, writers=2, seconds=0.5)
    contender.catch_up()
    appended = len(rows(postgres_engine, contender)) - appended - 4
    assert appended / 2 < in_processes <= appended / 0.5


def test_a_process_that_fails_is_no_figure(postgres_engine: Engine) -> None:
    url = postgres_engine.url.set(database="there_is_none")
    with pytest.raises(RuntimeError, match="of 1 processes that append, some failed"):
        appends_in_processes("sa_eventsource", url, writers=1, seconds=0.1)
