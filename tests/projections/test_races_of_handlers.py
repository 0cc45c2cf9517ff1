"""A subscription whose function changes aggregates may lose a race, or leave what cannot be flushed: that is its own affair."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DomainEvent, ReadModelManager, RecordedEvent, RetryPolicy, Worker, applies, subscribe
from tests.committing import commit_events
from tests.waiting import wait_until


class Base(DeclarativeBase):
    pass


class LetterPosted(DomainEvent):
    __event_type__ = "races.LetterPosted"


class LetterCounted(DomainEvent):
    __event_type__ = "races.LetterCounted"


class Letter(AggregateRoot[str], Base):
    __aggregate_type__ = "races.Letter"
    __ignored_events__ = (LetterPosted,)


class Tally(AggregateRoot[str], Base):
    __aggregate_type__ = "races.Tally"
    letters: int = 0

    @applies(LetterCounted)
    def _counted(self, event: LetterCounted) -> None:
        self.letters += 1


others: list[Any] = []
"""What others do between the reading and the writing."""


@subscribe("races.tally", LetterPosted, base=Base)
def count(posted: RecordedEvent[LetterPosted], session: Session) -> None:
    tally = session.get_one(Tally, "t")
    if others:
        others.pop()()
    tally.apply_event(LetterCounted())  # flushed with the batch


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    others.clear()


def letters(engine: Engine) -> int:
    with Session(engine) as session:
        return session.get_one(Tally, "t").letters


def test_a_lost_race_is_run_again_and_ends_no_worker(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    commit_events(postgres_engine, Tally, "t", LetterCounted())
    others.extend([partial(commit_events, postgres_engine, Tally, "t", LetterCounted())] * 2)
    commit_events(postgres_engine, Letter, "1", LetterPosted())
    commit_events(postgres_engine, Letter, "2", LetterPosted())
    with Worker(postgres_engine, Base, retries=RetryPolicy(first_pause=0.01)) as worker:
        wait_until(lambda: letters(postgres_engine) == 5)
        assert worker.error is None
    assert ReadModelManager(postgres_engine, Base).problems() == []


def test_what_cannot_be_flushed_stops_the_subscription_alone(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    commit_events(engine, Tally, "t", LetterCounted())
    commit_events(engine, Letter, "1", LetterPosted())

    def refuse(session: Session, *_: Any) -> None:
        if any(isinstance(each, Tally) for each in session.dirty):
            raise ValueError("not on a Sunday")

    event.listen(Session, "before_flush", refuse)
    try:
        Worker(engine, Base, retries=RetryPolicy(attempts=1)).run_once()
    finally:
        event.remove(Session, "before_flush", refuse)
    (problem,) = ReadModelManager(engine, Base).problems()
    assert problem.startswith("races.tally is stopped: ")
    assert "not on a Sunday" in problem
