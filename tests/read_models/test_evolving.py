"""``@evolves``: methods of a read model that get a row and an event."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.orm import Session

from sa_eventsource import DomainEvent, EventReplayer, ReadModelError, ReadModelManager, RetryPolicy, Worker, verify
from tests.committing import commit_events, commit_stored
from tests.databases import number_waiting
from tests.read_models.shelves import Base, Cleared, OwnStock, Shelf, State, Stock, StrongArticles, StrongStock, Trolley, put, take
from tests.threads import in_thread, together
from tests.waiting import wait_until


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


def happen(engine: Engine, shelf: str, *events: DomainEvent, kind: Any = Shelf) -> None:
    commit_events(engine, kind, shelf, *events, occurred_at=datetime(2026, 5, 1, tzinfo=UTC))


def rows(engine: Engine, model: Any = Stock) -> dict[str, tuple[int, bool, list[str], int]]:
    with Session(engine) as session:
        return {row.id: (row.number, row.is_full, row.articles, row.version) for row in session.scalars(select(model))}


def articles(engine: Engine) -> dict[str, int]:
    with Session(engine) as session:
        return {row.article: row.number for row in session.scalars(select(StrongArticles))}


def test_rows_begin_with_defaults_and_are_changed_and_removed(engine: Engine) -> None:
    happen(engine, "a", put(3), put(8, "cup"))
    happen(engine, "b", put(2), take(2))
    happen(engine, "c", put(2), Cleared(), put(1), take(1), put(5, "pot"))
    happen(engine, "d", take(1))
    happen(engine, "e", put(1), Cleared())
    expected = {"a": (11, True, ["tea", "cup"], 2), "c": (5, False, ["pot"], 1)}
    assert rows(engine, StrongStock) == expected
    ReadModelManager(engine, Base).catch_up()
    assert rows(engine, Stock) == rows(engine, OwnStock) == expected
    happen(engine, "a", take(10))
    happen(engine, "c", Cleared())
    ReadModelManager(engine, Base).catch_up()
    assert rows(engine, Stock) == rows(engine, OwnStock) == rows(engine, StrongStock) == {"a": (1, True, ["tea", "cup"], 3)}
    assert verify(engine, Base).is_sound


def test_events_of_other_aggregates_and_of_older_versions(engine: Engine) -> None:
    happen(engine, "a", put(3))
    happen(engine, "a", put(50), kind=Trolley)
    commit_stored(engine, Shelf, "a", "evolving.Put", {"article": "egg", "dozens": 2}, version=2)
    ReadModelManager(engine, Base).catch_up()
    for model in (Stock, StrongStock, OwnStock):
        EventReplayer(engine, Base).rebuild(model)
        assert rows(engine, model) == {"a": (27, True, ["tea", "egg"], 2)}


def test_rebuilding_some_rows(engine: Engine) -> None:
    for shelf in "abc":
        happen(engine, shelf, put(3), put(4))
    ReadModelManager(engine, Base).catch_up()
    before = rows(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE projections SET version = 99"))
        connection.execute(text("UPDATE evolving_own_stock SET version = 99"))
    for model in (Stock, StrongStock, OwnStock):
        assert EventReplayer(engine, Base).rebuild_rows(model, ["a", "c", "z"]) == 2
        found = rows(engine, model)
        assert (found["a"], found["b"][-1], found["c"]) == (before["a"], 99, before["c"])
        assert EventReplayer(engine, Base).rebuild_between(model, times=(datetime(2026, 1, 1, tzinfo=UTC), datetime.now(UTC))) == 3
        assert rows(engine, model) == before


def test_a_batch_of_events_takes_one_statement_to_read_and_one_to_write(
    postgres_engine: Engine, statements: Callable[[Engine], AbstractContextManager[list[str]]]
) -> None:
    for number in range(40):
        happen(postgres_engine, f"s-{number % 20}", put(number), put(1))
    with statements(postgres_engine) as log:
        ReadModelManager(postgres_engine, Base).catch_up(Stock, batch_size=50)
    at_work = [each for each in log if "jsonb_populate_recordset" in each]
    assert [each.split()[0] for each in at_work] == ["SELECT", "WITH"] * 2
    assert len(rows(postgres_engine)) == 20
    with statements(postgres_engine) as log:
        happen(postgres_engine, "s-1", put(1))
    assert [each.split()[0] for each in log if "evolving_articles" in each] == ["SELECT", "WITH"]


def test_values_are_what_the_columns_keep_before_they_are_stored(engine: Engine) -> None:
    happen(engine, "a", put(1), put(2), put(3))
    happen(engine, "b", put(1))
    with Session(engine) as session:
        row = session.get_one(StrongArticles, "tea")
        assert (row.cost, row.state, row.written_by, row.version) == (Decimal("0.04"), State.DONE, "the database", 4)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT state FROM evolving_articles")) == "DONE"
    EventReplayer(engine, Base).rebuild(StrongArticles)
    with Session(engine) as session:
        assert session.get_one(StrongArticles, "tea").cost == Decimal("0.04")


def test_what_the_database_refuses_names_the_model(postgres_engine: Engine) -> None:
    with pytest.raises(ReadModelError, match=r"StrongArticles.*too long"):
        happen(postgres_engine, "a", put(1, "longer than five"))
    assert articles(postgres_engine) == {}


@pytest.mark.parametrize("is_there", [False, True], ids=["new row", "row that is there"])
@pytest.mark.parametrize("is_kept", [False, True], ids=["rolled back", "committed"])
def test_two_transactions_that_change_one_row_lose_nothing(postgres_engine: Engine, is_there: bool, is_kept: bool) -> None:
    if is_there:
        happen(postgres_engine, "z", put(100))
    with Session(postgres_engine) as session:
        session.add(shelf := Shelf(id="a"))
        shelf.apply_event(put(1))
        session.flush()
        thread, errors = in_thread(lambda: happen(postgres_engine, "b", put(10), put(7, "cup"), take(1)))
        wait_until(lambda: number_waiting(postgres_engine), "the second does not wait for the first")
        if is_kept:
            session.commit()
        else:
            session.rollback()
    thread.join(60)
    assert errors == []
    assert articles(postgres_engine) == {"cup": 7, "tea": 9 + (100 if is_there else 0) + (1 if is_kept else 0)}
    assert verify(postgres_engine, Base).is_sound


def test_many_transactions_lose_nothing(postgres_engine: Engine) -> None:
    def write(writer: int) -> None:
        for number in range(15):
            happen(postgres_engine, f"{writer}-{number}", put(1, f"a{number % 4}"), put(1, "tea"))

    together(*(partial(write, writer) for writer in range(4)))
    assert articles(postgres_engine) == {"a0": 16, "a1": 16, "a2": 16, "a3": 12, "tea": 60}


def test_a_row_that_the_database_keeps_out_is_told(postgres_engine: Engine) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"))
        connection.execute(
            text("CREATE TRIGGER left_out BEFORE INSERT ON evolving_articles FOR EACH ROW EXECUTE FUNCTION leave_out()")
        )
    with pytest.raises(ReadModelError, match="look at the triggers and rules of evolving_articles"):
        happen(postgres_engine, "b", put(1))


def test_a_bad_event_is_parked_alone_with_its_stream(engine: Engine) -> None:
    for shelf in "abcdef":
        happen(engine, shelf, put(1))
    happen(engine, "c", put(-1), put(1))
    for shelf in "abdef":
        happen(engine, shelf, put(2))
    Worker(engine, Base, only=["OwnStock"], retries=RetryPolicy(attempts=2, first_pause=0)).run_once()
    found = rows(engine, OwnStock)
    assert {shelf: row[0] for shelf, row in found.items()} == {"a": 3, "b": 3, "c": 1, "d": 3, "e": 3, "f": 3}
    assert sum(each.parked_events for each in ReadModelManager(engine, Base).status(OwnStock)) == 2


def test_a_bad_event_is_named(engine: Engine) -> None:
    with pytest.raises(ReadModelError, match="cannot put -200") as caught:
        happen(engine, "c", put(1), put(-200), put(2))
    assert len(caught.value.event_ids) == 1
    assert caught.value.rows == ("'c'",)
    assert isinstance(caught.value.__cause__, ArithmeticError)
