"""The replayer: rows made anew in part, former versions retired, two releases side by side."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import Session

from sa_eventsource import DeclarationError, EventReplayer, ReadModelChangedError, ReadModelManager, Worker
from tests.bank import Deposited
from tests.committing import changing_events
from tests.projections import bank
from tests.projections.bank import Account, Balance, Base, BranchTotal, deposit, totals

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A log of 12 accounts, deposits a day apart, that all models have taken."""
    with Session(engine) as session:
        for number in range(12):
            session.add(account := Account(id=f"a-{number:02}"))
            for amount in (1, 2):
                account.apply_event(
                    Deposited(amount=amount, branch=f"b-{number % 3}"), occurred_at=START + timedelta(days=number, hours=amount)
                )
        session.commit()
    Worker(engine, Base).run_once()
    return engine


def damage(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text('UPDATE projections SET version = 99, data = \'{"branch": "x", "total": 99, "number": 7}\''))


def versions(engine: Engine, model: type[Any]) -> dict[Any, int]:
    with Session(engine) as session:
        return {session.identity_key(instance=row)[1][0]: row.version for row in session.query(model)}


def test_a_single_row_is_made_anew(filled: Engine) -> None:
    with filled.begin() as connection:
        connection.execute(text("UPDATE projections SET version = 99"))
    assert EventReplayer(filled, Base).rebuild_rows(Balance, ["a-03"]) == 1
    found = versions(filled, Balance)
    assert found.pop("a-03") == 2
    assert set(found.values()) == {99}
    assert totals(filled, Balance)["a-03"] == 3


def test_a_rebuild_warns_of_events_that_no_class_declares(filled: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """As after an event class was renamed, and its former name forgotten: their rows are gone."""
    EventReplayer(filled, Base).rebuild(Balance)
    assert caplog.records == []
    with changing_events(filled, Base) as connection:
        connection.execute(text("UPDATE events SET event_type = 'bank.PaidIn' WHERE aggregate_id IN ('a-01', 'a-02')"))
    EventReplayer(filled, Base).rebuild(Balance)
    assert len(totals(filled, Balance)) == 10
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("sa_eventsource.rebuild", "WARNING")
    assert record.getMessage().startswith("balance was rebuilt without 4 events of type 'bank.PaidIn', which no class declares")


def test_a_row_that_many_streams_feed_is_made_anew_from_every_part(filled: Engine) -> None:
    damage(filled)
    with filled.begin() as connection:
        connection.execute(text("DELETE FROM projections WHERE projection_name = 'branch_total' AND id = 'b-1'"))
    assert EventReplayer(filled, Base).rebuild_rows(BranchTotal, ["b-0", "b-1"]) == 2
    with Session(filled) as session:
        for branch in ("b-0", "b-1"):
            row = session.get_one(BranchTotal, branch)
            assert (row.branch, row.number, row.total, row.version) == (branch, 8, 12, 8)


def test_a_row_that_no_event_gives_goes(filled: Engine) -> None:
    with filled.begin() as connection:
        connection.execute(text("UPDATE projections SET id = 'ghost' WHERE id = 'a-03'"))
    assert EventReplayer(filled, Base).rebuild_rows(Balance, ["ghost", "a-03"]) == 1
    assert "ghost" not in totals(filled, Balance)


def test_the_rows_of_a_stretch_of_positions_are_made_anew(filled: Engine) -> None:
    with filled.begin() as connection:
        connection.execute(text("UPDATE projections SET version = 99"))
    assert EventReplayer(filled, Base).rebuild_between(Balance, positions=(3, 5)) == 2
    assert {key for key, version in versions(filled, Balance).items() if version == 2} == {"a-01", "a-02"}


def test_the_rows_of_a_stretch_of_time_are_made_anew(filled: Engine) -> None:
    with filled.begin() as connection:
        connection.execute(text("UPDATE projections SET version = 99"))
    begin = START + timedelta(days=4)
    assert EventReplayer(filled, Base).rebuild_between(Balance, times=(begin, begin + timedelta(days=2))) == 2
    assert {key for key, version in versions(filled, Balance).items() if version == 2} == {"a-04", "a-05"}


def test_events_that_the_model_has_not_taken_are_left_to_it(filled: Engine) -> None:
    deposit(filled, "a-03", 10)
    assert EventReplayer(filled, Base).rebuild_rows(Balance, ["a-03"]) == 1
    assert totals(filled, Balance)["a-03"] == 3
    assert ReadModelManager(filled, Base).catch_up(Balance) == 1
    assert totals(filled, Balance)["a-03"] == 13


def test_in_the_midst_of_a_window_too(postgres_engine: Engine) -> None:
    deposit(postgres_engine, "a", 1)
    worker = Worker(postgres_engine, Base, only=["stopping"])
    deposit(postgres_engine, "a", 2, -5, 7)
    worker.run_once()
    with postgres_engine.begin() as connection:  # as if the declared model had been interrupted there
        table = "projection_positions"
        columns = "snapshot_cursor, window_end, last_processed_position, cluster"
        connection.execute(text(f"INSERT INTO {table} (projection_name, {columns}) SELECT 'balance', {columns} FROM {table}"))
        progress = connection.execute(text("SELECT * FROM projection_positions WHERE projection_name = 'balance'")).one()
    assert (progress.window_end is not None, progress.last_processed_position) == (True, 2)
    assert EventReplayer(postgres_engine, Base).rebuild_rows(Balance, ["a"]) == 1
    assert totals(postgres_engine, Balance) == {"a": 3}
    ReadModelManager(postgres_engine, Base).catch_up(Balance)
    assert totals(postgres_engine, Balance) == {"a": 5}


def test_a_model_that_has_taken_nothing_gets_no_rows(engine: Engine) -> None:
    deposit(engine, "a", 1)
    assert EventReplayer(engine, Base).rebuild_rows(Balance, ["a"]) == 0
    assert totals(engine, Balance) == {}


def test_what_cannot_be_rebuilt_in_part_is_refused(filled: Engine) -> None:
    replayer = EventReplayer(filled, Base)
    with pytest.raises(DeclarationError, match="has @handles methods"):
        replayer.rebuild_rows(bank.Stopping, ["a-03"])
    with pytest.raises(ValueError, match=r"needs positions=\(first, last\)"):
        replayer.rebuild_between(Balance)
    with pytest.raises(ValueError, match="has no time zone"):
        replayer.rebuild_between(Balance, times=(datetime(2026, 1, 1), datetime(2026, 1, 2)))  # noqa: DTZ001
    with pytest.raises(ValueError, match=r"the beginning, 2026-01-02T00:00:00.*, comes after the end"):
        replayer.rebuild_between(Balance, times=(datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)))
    with filled.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET declaration = 'old'"))
    with pytest.raises(ReadModelChangedError):
        replayer.rebuild_rows(Balance, ["a-03"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("a-03", r"takes the keys of the rows, such as \['a-03'\], not 'a-03' alone"),
        (5, r"takes the keys of the rows, such as \[5\], not 5 alone"),
        ([5], "id in a key of Balance is of type str, not 5, which is of type int"),
        ([None], "id in a key of Balance is of type str, not None"),
        ([("a-03", 1)], r"takes a value each, of id as keys of Balance, not \('a-03', 1\)"),
    ],
)
def test_what_is_no_key_is_refused(filled: Engine, keys: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        EventReplayer(filled, Base).rebuild_rows(Balance, keys)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"positions": 5}, r"takes positions=\(first, last\), not 5"),
        ({"positions": (1, "2")}, "must be two positions, 0 or more, not '2', which is of type str"),
        ({"times": "2026"}, r"takes times=\(begin, end\), not '2026'"),
        ({"times": (1, 2)}, "must be a datetime with a time zone"),
    ],
)
def test_what_is_no_stretch_is_refused(filled: Engine, wrong: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        EventReplayer(filled, Base).rebuild_between(Balance, **wrong)


def test_retiring_drops_what_a_version_has_left(filled: Engine) -> None:
    with filled.begin() as connection:
        connection.execute(text("UPDATE projections SET projection_name = 'gone@2' WHERE projection_name = 'balance'"))
        connection.execute(text("UPDATE projection_positions SET projection_name = 'gone@2' WHERE projection_name = 'balance'"))
        connection.execute(text("UPDATE projection_positions SET projection_name = 'gone@2#1/2' WHERE projection_name = 'parking'"))
    assert EventReplayer(filled, Base).retire("gone", 2) == 12
    with filled.connect() as connection:
        for table in ("projections", "projection_positions", "parked_events"):
            statement = text(f"SELECT count(*) FROM {table} WHERE projection_name LIKE 'gone%'")
            assert connection.scalar(statement) == 0


@pytest.mark.parametrize(("name", "version"), [("maler", 1), ("balance", 7)])
def test_what_is_not_there_is_not_retired(filled: Engine, name: str, version: int) -> None:
    with pytest.raises(
        DeclarationError, match=rf"nothing is kept under the name '{name}', version {version}\. There are: .*balance"
    ):
        EventReplayer(filled, Base).retire(name, version)


def test_what_is_retired_is_named(filled: Engine) -> None:
    with pytest.raises(TypeError, match="takes the name that something is kept under"):
        EventReplayer(filled, Base).retire(Balance)  # type: ignore[arg-type]


def test_what_the_code_declares_is_not_retired(filled: Engine) -> None:
    with pytest.raises(DeclarationError, match="'balance' version 1 is what the code declares"):
        EventReplayer(filled, Base).retire("balance")
    assert len(totals(filled, Balance)) == 12
