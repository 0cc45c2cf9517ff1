"""Leaving out orders that make no difference leaves out no end that a run can have."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource.testing.races import ActorOutcome
from sa_eventsource.testing.races.exploration import Exploration, Legal
from sa_eventsource.testing.races.stages import Race, ThreadStage
from sa_eventsource.testing.races.turn_taking import Limits, TurnTaking
from tests.testing.races.bank import FreeName, Row

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")

Ids = tuple[int, int]


def read(session: Session, ids: Ids, place: int, seen: list[Any]) -> None:
    seen.append(session.scalar(select(Row.balance).where(Row.id == ids[place])))


def read_both(session: Session, ids: Ids, _: int, seen: list[Any]) -> None:
    seen.append(tuple(session.scalars(select(Row.balance).where(Row.id.in_(ids)).order_by(Row.id))))


def lock(session: Session, ids: Ids, place: int, seen: list[Any]) -> None:
    seen.append(session.scalar(select(Row.balance).where(Row.id == ids[place]).with_for_update()))


def lock_if_free(session: Session, ids: Ids, place: int, seen: list[Any]) -> None:
    seen.append(session.scalar(select(Row.balance).where(Row.id == ids[place]).with_for_update(skip_locked=True)))


def add(session: Session, ids: Ids, place: int, _: list[Any]) -> None:
    session.execute(update(Row).where(Row.id == ids[place]).values(balance=Row.balance * 2 + place))


def write_what_was_read(session: Session, ids: Ids, place: int, seen: list[Any]) -> None:
    last = next((each for each in reversed(seen) if isinstance(each, int)), 7)
    session.execute(update(Row).where(Row.id == ids[place]).values(balance=last + 1))


def name(session: Session, ids: Ids, place: int, _: list[Any]) -> None:
    session.add(FreeName(name=f"{ids[0]}"))
    session.flush()


def count_names(session: Session, ids: Ids, _: int, seen: list[Any]) -> None:
    seen.append(len(session.scalars(select(FreeName.id).where(FreeName.name == f"{ids[0]}")).all()))


def commit(session: Session, *_: Any) -> None:
    session.commit()


def try_for_a_moment(session: Session, ids: Ids, place: int, _: list[Any]) -> None:
    with session.begin_nested() as savepoint:
        session.execute(update(Row).where(Row.id == ids[place]).values(balance=-1))
        savepoint.rollback()


STEPS = (read, read_both, lock, lock_if_free, add, write_what_was_read, name, count_names, commit, try_for_a_moment)


def actor(chance: random.Random) -> Callable[[Session, Ids], tuple[Any, ...]]:
    """Draw what an actor does."""
    level = chance.choice(LEVELS)
    steps = [(chance.choice(STEPS), chance.randrange(2)) for _ in range(chance.randint(1, 3))]

    def act(session: Session, ids: Ids) -> tuple[Any, ...]:
        seen: list[Any] = []
        session.connection(execution_options={"isolation_level": level})
        for step, place in steps:
            step(session, ids, place, seen)
        session.commit()
        return tuple(seen)

    act.__doc__ = f"{level}: {[(step.__name__, place) for step, place in steps]}"
    return act


def setup(session: Session) -> Ids:
    rows = Row(balance=10), Row(balance=20)
    session.add_all(rows)
    session.flush()
    return rows[0].id, rows[1].id


class Ends:
    """Notes how runs end: what actors have seen, how they failed, and what is stored."""

    def __init__(self) -> None:
        self.all: set[Any] = set()

    def __call__(self, session: Session, ids: Ids, outcomes: tuple[ActorOutcome, ...]) -> None:
        stored = tuple(session.scalars(select(Row.balance).where(Row.id.in_(ids)).order_by(Row.id)))
        self.all.add((stored, tuple((each.value, _failure(each.error)) for each in outcomes)))


def _failure(error: BaseException | None) -> str | None:
    return None if error is None else type(error.orig).__name__ if isinstance(error, DBAPIError) else type(error).__name__


LIMITS = Limits(step_timeout=10, steps=100)


def ends_of_all(engine: Engine, actors: Sequence[Any]) -> tuple[set[Any], int]:
    """Run every order there is: a tree of choices, one branch after another."""
    ends = Ends()
    with closing(ThreadStage(engine, Race(sessionmaker(engine), setup, actors, ends))) as stage, stage.stops:
        runs = 0
        path: list[tuple[int, ...]] | None = []  # at each step, those that were not chosen yet, the one that is first
        while path is not None:
            taken: list[tuple[int, ...]] = []

            def choose(
                able: Sequence[int], _: int | None, path: list[tuple[int, ...]] = path, taken: list[tuple[int, ...]] = taken
            ) -> int:
                taken.append(path[len(taken)] if len(taken) < len(path) else tuple(able))
                return taken[-1][0]

            context = stage.prepare()
            run = TurnTaking(stage, len(actors), LIMITS).run(context, (), choose)
            outcomes = tuple(ActorOutcome("AB"[n], run.values[n], run.errors[n], False) for n in range(len(actors)))
            stage.judge(context, outcomes)
            runs += 1
            while taken and len(taken[-1]) == 1:
                taken.pop()
            path = [*taken[:-1], taken[-1][1:]] if taken else None
    return ends.all, runs


def ends_of_reduced(engine: Engine, actors: Sequence[Any]) -> tuple[set[Any], int]:
    ends = Ends()
    with closing(ThreadStage(engine, Race(sessionmaker(engine), setup, actors, ends))) as stage:
        exploration = Exploration(stage, ["a", "b"], Legal((Exception,), True, True), LIMITS)
        report = exploration.search(1000, 0)
    assert report.is_exhaustive
    return ends.all, report.schedules


SEEDS = [pytest.param(seed, marks=[] if seed < 12 else pytest.mark.slow) for seed in range(100)]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_end_that_a_run_can_have_is_met(postgres_engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    actors = [actor(chance), actor(chance)]
    reduced, few = ends_of_reduced(postgres_engine, actors)
    everything, many = ends_of_all(postgres_engine, actors)
    assert reduced == everything, "\n".join(str(each.__doc__) for each in actors)
    assert few <= many
