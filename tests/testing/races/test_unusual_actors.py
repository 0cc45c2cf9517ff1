"""Actors, sessions and statements that are not the usual ones: what the driver gets itself, DDL, sessions that begin by hand."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, inspect, text
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource import RaceFoundError
from sa_eventsource.testing.races import ActorOutcome, races
from tests.testing.races.bank import Base, Row


def row(session: Session) -> int:
    found = Row(balance=0)
    session.add(found)
    session.flush()
    return found.id


def add_one(session: Session, row_id: int) -> None:
    found = session.get_one(Row, row_id)
    found.balance += 1
    session.commit()


def both_count(session: Session, row_id: int) -> None:
    assert session.get_one(Row, row_id).balance == 2


def driver_of(session: Session) -> Any:
    return session.connection().connection.cursor()


def add_one_by_the_driver(session: Session, row_id: int) -> None:
    cursor = driver_of(session)
    cursor.execute("SELECT balance FROM accounts WHERE id = %s", (row_id,))
    (balance,) = cursor.fetchone()
    cursor.execute("UPDATE accounts SET balance = %s WHERE id = %s", (balance + 1, row_id))
    session.commit()


def test_what_only_the_driver_has_seen_is_a_step_when_it_is_committed(postgres_engine: Engine) -> None:
    with pytest.raises(RaceFoundError) as caught:
        races(row, [add_one_by_the_driver, add_one_by_the_driver], invariant=both_count, sessions=postgres_engine)
    assert caught.value.schedule == "AB"
    with pytest.raises(RaceFoundError):
        races(
            row,
            [add_one_by_the_driver, add_one_by_the_driver],
            invariant=both_count,
            sessions=postgres_engine,
            schedule=caught.value.schedule,
        )


def test_a_lock_that_the_driver_asks_for_is_waited_for_and_the_report_is_not_exhaustive(postgres_engine: Engine) -> None:
    def lock_and_add(session: Session, row_id: int) -> None:
        cursor = driver_of(session)
        cursor.execute("SELECT balance FROM accounts WHERE id = %s FOR UPDATE", (row_id,))
        (balance,) = cursor.fetchone()
        cursor.execute("UPDATE accounts SET balance = %s WHERE id = %s", (balance + 1, row_id))
        session.commit()

    report = races(row, [lock_and_add, lock_and_add], invariant=both_count, sessions=postgres_engine)
    assert not report.is_exhaustive
    assert report.schedules < 10


def test_a_driver_that_sends_nothing_makes_no_step(postgres_engine: Engine) -> None:
    def only_connect(session: Session, _: int) -> None:
        session.connection()
        session.commit()

    report = races(row, [only_connect, only_connect], invariant=lambda _, __: True, sessions=postgres_engine)
    assert report.followed == ("",)
    assert report.is_exhaustive


def made_once(session: Session, _: None, outcomes: tuple[ActorOutcome, ...]) -> None:
    assert [each.error for each in outcomes] == [None, None]
    assert inspect(session.connection()).has_table("made_by_races")


def no_table(session: Session) -> None:
    session.execute(text("DROP TABLE IF EXISTS made_by_races"))


def look_and_make(session: Session, _: None) -> None:
    if not inspect(session.connection()).has_table("made_by_races"):
        session.execute(text("CREATE TABLE made_by_races (id int)"))
    session.commit()


def make_unless_there(session: Session, _: None) -> None:
    session.execute(text("CREATE TABLE IF NOT EXISTS made_by_races (id int)"))
    session.commit()


@pytest.mark.parametrize("make", [look_and_make, make_unless_there])
def test_two_that_make_the_same_table_are_a_race(postgres_engine: Engine, make: Any) -> None:
    with pytest.raises(RaceFoundError, match=r"made_by_races|pg_type"):
        races(no_table, [make, make], invariant=made_once, sessions=postgres_engine)


def test_temporary_tables_are_of_nobody_elses_concern(postgres_engine: Engine) -> None:
    def work(session: Session, _: int) -> None:
        session.execute(text("CREATE TEMPORARY TABLE notes (id int) ON COMMIT DROP"))
        session.execute(text("INSERT INTO notes VALUES (1)"))
        session.commit()

    report = races(row, [work, work], invariant=lambda _, __: True, sessions=postgres_engine)
    assert report.schedules == 1


def test_sessions_that_begin_by_hand(postgres_engine: Engine) -> None:
    def row_by_hand(session: Session) -> int:
        with session.begin():
            return row(session)

    def add_by_hand(session: Session, row_id: int) -> None:
        with session.begin():
            session.get_one(Row, row_id).balance += 1

    def both_count_by_hand(session: Session, row_id: int) -> None:
        with session.begin():
            both_count(session, row_id)

    sessions = sessionmaker(postgres_engine, autobegin=False)
    with pytest.raises(RaceFoundError) as caught:
        races(row_by_hand, [add_by_hand, add_by_hand], invariant=both_count_by_hand, sessions=sessions)
    assert caught.value.schedule == "ABBBAA"


@pytest.mark.parametrize("of", [Base, Row])
def test_sessions_that_are_bound_by_class(postgres_engine: Engine, of: Any) -> None:
    with pytest.raises(RaceFoundError) as caught:
        races(row, [add_one, add_one], invariant=both_count, sessions=sessionmaker(binds={of: postgres_engine}))
    assert caught.value.schedule == "ABBBAA"


def test_sessions_of_several_engines_are_refused(postgres_engine: Engine) -> None:
    other = postgres_engine.execution_options(isolation_level="SERIALIZABLE")
    with pytest.raises(ValueError, match="takes sessions on one engine, and these are bound to 2"):
        races(row, [add_one, add_one], invariant=both_count, sessions=sessionmaker(binds={Base: postgres_engine, Row: other}))


def test_actors_that_fail_before_their_first_statement_are_reported(postgres_engine: Engine) -> None:
    def takes_nothing() -> None: ...

    wrong: Any = takes_nothing
    with pytest.raises(RaceFoundError, match=r"A \(takes_nothing\) failed: TypeError: .*this is no race"):
        races(row, [wrong, wrong], invariant=both_count, sessions=postgres_engine)


async def _coroutine(*_: Any) -> None: ...


@pytest.mark.parametrize("which", ["setup", "actor", "invariant"])
def test_coroutine_functions_are_told_where_they_belong(postgres_engine: Engine, which: str) -> None:
    wrong: Any = _coroutine
    setup, actor, invariant = (wrong if which == each else right for each, right in _PLAIN.items())
    with pytest.raises(TypeError, match=r"_coroutine\(\) is a coroutine function, which races\(\) does not await"):
        races(setup, [add_one, actor], invariant=invariant, sessions=postgres_engine)


_PLAIN: dict[str, Any] = {"setup": row, "actor": add_one, "invariant": both_count}
