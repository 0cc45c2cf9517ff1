"""Subscriptions begin at a place in the log and are sent back to one while workers run; what they had to take is never lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    DeclarationError,
    DomainEvent,
    EventReplayer,
    EventStore,
    Pace,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    RetryPolicy,
    Worker,
    map_from_event,
    subscribe,
    verify,
)
from sa_eventsource.consumers import named_subscriptions
from sa_eventsource.mapping import tables_on
from sa_eventsource.read_models import count
from tests.waiting import wait_until


class Base(DeclarativeBase):
    """Base of a stamp collection."""


class Stamped(DomainEvent):
    """A stamp was put on something."""

    __event_type__ = "places.Stamped"
    number: int


class Sorted(DomainEvent):
    """Something that the subscriptions do not take."""

    __event_type__ = "places.Sorted"


class Card(AggregateRoot[str], Base):
    """What the stamps are put on."""

    __aggregate_type__ = "places.Card"
    __ignored_events__ = (Stamped, Sorted)


class Stamps(ReadModel, Base):
    """A model, which is not sent back."""

    __projection_name__ = "places.stamps"

    id: Mapped[str]
    number: Mapped[int] = map_from_event(Stamped, reduce=count())


taken: list[int] = []
failing: set[int] = set()


@subscribe("places.collector", Stamped, base=Base, batch_size=1)
def collect(stamped: RecordedEvent[Stamped], session: Session) -> None:
    if stamped.event.number in failing:
        raise RuntimeError("a stamp that sticks")
    taken.append(stamped.event.number)


@subscribe("places.parker", Stamped, base=Base, on_error="park")
def parks(stamped: RecordedEvent[Stamped], session: Session) -> None:
    collect(stamped, session)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def cards(engine: Engine) -> Iterator[Engine]:
    taken.clear()
    failing.clear()
    yield engine
    failing.clear()


@contextmanager
def starting(start: Any) -> Iterator[None]:
    """Have the collector begin elsewhere, as if another release had declared it."""
    before: Any = named_subscriptions._declared["places.collector"]
    named_subscriptions._declared["places.collector"] = replace(before, start=start)
    try:
        yield
    finally:
        named_subscriptions._declared["places.collector"] = before


def stamp(engine: Engine, *numbers: int, card_id: str = "a") -> None:
    """Commit stamps on one card, each in a transaction of its own; position and number are the same in these tests."""
    for number in numbers:
        with Session(engine) as session:
            card = session.get(Card, card_id)
            if card is None:
                session.add(card := Card(id=card_id))
            card.apply_event(Stamped(number=number))
            session.commit()


def run(engine: Engine, name: str = "places.collector") -> list[int]:
    """Let it take what there is, and say what that was."""
    taken.clear()
    Worker(engine, Base, only=[name], retries=RetryPolicy(attempts=1, first_pause=0)).run_once()
    return list(taken)


def recorded_at(engine: Engine, position: int) -> datetime:
    with Session(engine) as session:
        found = EventStore(session, Base).events.after_position(position - 1).first()
        assert found is not None
        return found.recorded_at


def lag(engine: Engine, name: str = "places.collector") -> int:
    return next(each.lag_events for each in ReadModelManager(engine, Base).status() if each.name == name)


def test_it_begins_behind_a_position(cards: Engine) -> None:
    stamp(cards, 1, 2, 3, 4, 5, 6, 7)
    with starting(2):
        assert lag(cards) == 5
        assert run(cards) == [3, 4, 5, 6, 7]
        stamp(cards, 8)
        assert run(cards) == [8]
        assert verify(cards, Base).is_sound


def test_behind_a_position_that_the_log_has_not_reached_it_begins_once_it_has(cards: Engine) -> None:
    stamp(cards, 1, 2)
    with starting(4):
        assert (lag(cards), run(cards)) == (0, [])
        stamp(cards, 3, 4, 5)
        assert (lag(cards), run(cards)) == (1, [5])


def test_it_begins_with_the_first_event_that_was_recorded_at_a_time_or_later(cards: Engine) -> None:
    stamp(cards, 1, 2, 3, 4, 5)
    with starting(recorded_at(cards, 4)):
        assert lag(cards) == 2
        assert run(cards) == [4, 5]
        stamp(cards, 6)
        assert run(cards) == [6]


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(days=1)])
def test_behind_a_time_of_which_the_log_has_no_event_it_does_not_begin_yet(cards: Engine, delay: timedelta) -> None:
    stamp(cards, 1, 2)
    with starting(datetime.now(UTC) + delay):
        assert (lag(cards), run(cards)) == (0, [])
        stamp(cards, 3)
        assert run(cards) == ([] if delay else [3])


def test_it_begins_with_what_comes_from_now_on(cards: Engine) -> None:
    stamp(cards, 1, 2)
    with starting("now"):
        assert (lag(cards), run(cards)) == (0, [])
        stamp(cards, 3)
        assert (lag(cards), run(cards)) == (1, [3])


@pytest.mark.parametrize("start", [1, "now"])
def test_what_is_committed_late_is_taken_though_it_lies_before_the_beginning(postgres_engine: Engine, start: Any) -> None:
    with Session(postgres_engine) as late:
        late.add(card := Card(id="late"))
        card.apply_event(Stamped(number=1))
        late.flush()
        stamp(postgres_engine, 2)
        with starting(start):
            assert run(postgres_engine) == ([] if start == "now" else [2])
            late.commit()
            assert run(postgres_engine) == [1]


def test_a_failure_at_the_first_event_behind_the_beginning_lets_it_begin_there_again(cards: Engine) -> None:
    stamp(cards, 1, 2, 3, 4)
    failing.add(3)
    with starting(2):
        assert run(cards) == []
        failing.clear()
        assert Worker(cards, Base, only=["places.collector"]).run_once() == 0, "it has stopped"
        EventReplayer(cards, Base).rewind("places.collector", to=2)
        assert run(cards) == [3, 4]


@pytest.mark.parametrize(("to", "expected"), [("beginning", [1, 2, 3, 4, 5]), (0, [1, 2, 3, 4, 5]), (3, [4, 5]), (5, []), (99, [])])
def test_it_is_sent_back_to_a_place(cards: Engine, to: Any, expected: list[int]) -> None:
    stamp(cards, 1, 2, 3, 4, 5)
    assert run(cards) == [1, 2, 3, 4, 5]
    assert EventReplayer(cards, Base).rewind("places.collector", to=to) == len(expected)
    assert lag(cards) == len(expected)
    assert run(cards) == expected
    stamp(cards, 6)
    assert run(cards) == [6]
    assert verify(cards, Base).is_sound


def test_it_is_sent_back_to_a_time(cards: Engine) -> None:
    stamp(cards, 1, 2, 3, 4)
    run(cards)
    replayer = EventReplayer(cards, Base)
    assert replayer.rewind("places.collector", to=recorded_at(cards, 3)) == 2
    assert run(cards) == [3, 4]
    assert replayer.rewind("places.collector", to=datetime.now(UTC)) == 0
    assert run(cards) == []


def test_what_it_had_yet_to_take_it_still_has_to_take(postgres_engine: Engine) -> None:
    taken.clear()
    with Session(postgres_engine) as late:
        late.add(card := Card(id="late"))
        card.apply_event(Stamped(number=1))
        late.flush()
        stamp(postgres_engine, 2, 3)
        assert run(postgres_engine) == [2, 3]
        late.commit()
    assert EventReplayer(postgres_engine, Base).rewind("places.collector", to=2) == 2
    assert run(postgres_engine) == [3, 1], "the late one lies before the place, and had not been taken"


def test_in_the_midst_of_a_backlog_nothing_is_left_out(postgres_engine: Engine) -> None:
    taken.clear()
    stamp(postgres_engine, 1, 2)
    assert run(postgres_engine) == [1, 2]
    stamp(postgres_engine, 3, 4, 5, 6, 7)
    failing.add(6)
    try:
        assert run(postgres_engine) == [3, 4, 5]
    finally:
        failing.clear()
    replayer = EventReplayer(postgres_engine, Base)
    assert replayer.rewind("places.collector", to=6) == 2, "it has come to 5 only, and has stopped there"
    assert run(postgres_engine) == [6, 7]
    assert replayer.rewind("places.collector", to=1) == 6
    assert run(postgres_engine) == [2, 3, 4, 5, 6, 7]


def test_one_that_has_not_begun_goes_back_from_where_it_would_begin(cards: Engine) -> None:
    stamp(cards, 1, 2, 3)
    with starting("now"):
        assert EventReplayer(cards, Base).rewind("places.collector", to=1) == 2
        assert run(cards) == [2, 3]


def test_one_that_is_to_begin_in_the_future_is_sent_back_all_the_same(cards: Engine) -> None:
    stamp(cards, 1, 2, 3)
    with starting(datetime.now(UTC) + timedelta(days=1)):
        replayer = EventReplayer(cards, Base)
        assert replayer.rewind("places.collector", to=7) == 0
        assert run(cards) == []
        assert replayer.rewind("places.collector", to=2) == 1
        assert run(cards) == [3]


def test_what_was_put_aside_stays_aside(cards: Engine) -> None:
    failing.add(2)
    stamp(cards, 1, 2, 3)
    stamp(cards, 4, card_id="b")
    assert run(cards, "places.parker") == [1, 4]
    failing.clear()
    EventReplayer(cards, Base).rewind("places.parker", to="beginning")
    assert run(cards, "places.parker") == [1, 4]


def test_workers_that_run_notice_it(cards: Engine) -> None:
    stamp(cards, 1, 2, 3)
    with Session(cards) as session:
        session.get_one(Card, "a").apply_event(Sorted())
        session.commit()
    pace = Pace(longest=0.02, every_follower=0.05)
    with Worker(cards, Base, only=["places.collector"], pace=pace):
        for _ in range(3):
            wait_until(lambda: taken[-1:] == [3])
            wait_until(lambda: not lag(cards))
            taken.clear()
            EventReplayer(cards, Base).rewind("places.collector", to=1)
            wait_until(lambda: taken == [2, 3])


def test_it_waits_for_the_batch_under_way(postgres_engine: Engine) -> None:
    stamp(postgres_engine, 1, 2)
    run(postgres_engine)
    positions = tables_on(Base.metadata).projection_positions
    with postgres_engine.connect() as batch:
        batch.execute(select(positions).with_for_update())
        thread = threading.Thread(target=EventReplayer(postgres_engine, Base).rewind, args=("places.collector", "beginning"))
        thread.start()
        with postgres_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watch:
            wait_until(lambda: watch.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))
        batch.rollback()
    thread.join()
    assert run(postgres_engine) == [1, 2]


def test_what_cannot_be_sent_back_is_refused(cards: Engine) -> None:
    replayer = EventReplayer(cards, Base)
    with pytest.raises(DeclarationError, match=r"'places\.stamps' is a read model; rebuild it"):
        replayer.rewind("places.stamps", to=0)
    with pytest.raises(DeclarationError, match=r"no subscription and no reader 'x'\. There are: places\.collector, "):
        replayer.rewind("x", to=0)
    with pytest.raises(TypeError, match='to must be "beginning", a datetime with a time zone, or a position'):
        replayer.rewind("places.collector", to="now")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not -1"):
        replayer.rewind("places.collector", to=-1)
    with pytest.raises(ValueError, match="has no time zone"):
        replayer.rewind("places.collector", to=datetime(2026, 1, 1))  # noqa: DTZ001


def test_one_that_is_no_longer_declared_is_retired_while_others_are(cards: Engine, request: pytest.FixtureRequest) -> None:
    failing.add(1)
    stamp(cards, 1)
    run(cards, "places.parker")
    run(cards)
    gone = named_subscriptions._declared.pop("places.parker")
    request.addfinalizer(lambda: named_subscriptions._declared.update({"places.parker": gone}))
    replayer = EventReplayer(cards, Base)
    assert replayer.retire("places.parker") == 0
    with cards.connect() as connection:
        assert connection.scalars(text("SELECT projection_name FROM projection_positions")).all() == ["places.collector"]
        assert connection.scalar(text("SELECT count(*) FROM parked_events")) == 0
    with pytest.raises(DeclarationError, match="is what the code declares"):
        replayer.retire("places.collector")
