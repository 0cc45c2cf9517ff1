"""A search is called exhaustive only if the actors do the same whenever they have seen the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session

from sa_eventsource.testing.races import races
from tests.testing.races.bank import FreeName, Row


def two_rows(session: Session) -> tuple[int, int]:
    first, second = Row(), Row()
    session.add_all([first, second])
    session.flush()
    return first.id, second.id


def anything(_: Session, __: object) -> None:
    """Hold always."""


def add(session: Session, ids: tuple[int, int]) -> None:
    session.execute(update(Row).where(Row.id == ids[0]).values(balance=Row.balance + 1))
    session.commit()


def doing_more_each_second_time() -> Callable[[Session, tuple[int, int]], None]:
    calls = itertools.count()

    def act(session: Session, ids: tuple[int, int]) -> None:
        if next(calls) % 2:
            session.scalar(select(Row.balance).where(Row.id == ids[1]))
        add(session, ids)

    return act


def ending_early_each_second_time() -> Callable[[Session, tuple[int, int]], None]:
    calls = itertools.count()

    def act(session: Session, ids: tuple[int, int]) -> None:
        add(session, ids)
        if next(calls) % 2:
            add(session, ids)

    return act


@pytest.mark.parametrize("made", [doing_more_each_second_time, ending_early_each_second_time])
def test_actors_that_do_something_else_after_the_same_are_not_taken_through_all_orders(
    postgres_engine: Engine, made: Callable[[], Callable[[Session, tuple[int, int]], None]]
) -> None:
    report = races(two_rows, [made(), add, add], invariant=anything, sessions=postgres_engine)
    assert not report.is_exhaustive


def test_an_actor_may_decide_by_what_it_has_read(postgres_engine: Engine) -> None:
    def add_where_nobody_has(session: Session, ids: tuple[int, int]) -> None:
        if session.scalar(select(Row.balance).where(Row.id == ids[0])) == Row.__table__.c.balance.default.arg:
            add(session, ids)

    report = races(two_rows, [add_where_nobody_has, add_where_nobody_has], invariant=anything, sessions=postgres_engine)
    assert report.is_exhaustive


def test_statements_may_have_other_values_and_more_of_them_in_each_run(postgres_engine: Engine) -> None:
    calls = itertools.count(1)

    def add_some(session: Session, ids: tuple[int, int]) -> None:
        number = next(calls)
        session.scalars(select(Row.balance).where(Row.id.in_([ids[0]] * number))).all()
        session.execute(text(f"SELECT {number}, '{number}'"))
        session.add_all([FreeName(name=f"{ids[0]}") for _ in range(number)])
        session.commit()

    report = races(two_rows, [add_some, add], invariant=anything, sessions=postgres_engine)
    assert report.is_exhaustive
