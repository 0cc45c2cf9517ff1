"""Two times of an event: when it occurred, and when the log recorded it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from sa_eventsource import (
    AggregateNotFoundError,
    AsyncEventSourcedRepository,
    EventRecord,
    EventSourcedRepository,
    EventStore,
    import_events,
)
from sa_eventsource.arguments import EARLIEST, TimeAxis
from sa_eventsource.mapping import as_json, json_object
from tests.bank import Deposited
from tests.cli.exported_lines import HEADER
from tests.orders import Account, Order
from tests.session.helpers import place_order

START = datetime(2020, 1, 1, tzinfo=UTC)
NOW, LATER = 10_000, 20_000
"""Days that stand for the present, and for one when all is known."""

_ID = UUID(int=7)

Times = list[tuple[int, int]]
"""The days on which each event of an account occurred and was recorded, by version; one recorded ``NOW`` is really appended."""


def _day(number: int) -> datetime:
    return START + timedelta(days=number)


def _write(session: Session, times: Times) -> None:
    """Write an account with a deposit of 1, 10, 100, ... for each event: a digit of the balance says how often it was applied."""
    for version, (occurred, recorded) in enumerate(times, 1):
        deposit = Deposited(amount=10 ** (version - 1))
        if recorded == NOW:
            account = session.get(Account, _ID) or Account(id=_ID)
            account.apply_event(deposit, occurred_at=_day(occurred))
            session.add(account)
            session.flush()
            session.expire_all()
        else:
            line = _line(version, _day(occurred), _day(recorded), deposit)
            import_events(session.connection(), EventRecord.__table__, [HEADER, line])


def _line(version: int, occurred_at: datetime, recorded_at: datetime, deposit: Deposited) -> str:
    return json_object(
        {
            "position": str(version),
            "event_id": as_json(str(UUID(int=version))),
            "aggregate_type": '"Account"',
            "aggregate_id": as_json(str(_ID)),
            "version": str(version),
            "event_type": as_json(Deposited.__event_type__),
            "event_version": "1",
            "occurred_at": as_json(occurred_at.isoformat()),
            "recorded_at": as_json(recorded_at.isoformat()),
            "event_data": deposit.model_dump_json(),
            "metadata": "null",
            "correlation_id": "null",
            "causation_id": "null",
        }
    )


def _known(times: Times, moment: int, axis: TimeAxis) -> list[int]:
    """List the versions that were there, worked out the simple way."""
    if axis == "occurred":
        return [version for version, (occurred, _) in enumerate(times, 1) if occurred <= moment]
    known = []
    for version, (_, recorded) in enumerate(times, 1):
        if recorded > moment:
            break
        known.append(version)
    return known


def _found(session: Session, moment: int, axis: TimeAxis) -> list[int]:
    """List the versions that are in the account as it stood, or was known, on a day."""
    try:
        account = EventSourcedRepository(session, Account).load_at_time(_ID, _day(moment), axis=axis)
    except AggregateNotFoundError as error:
        assert (error.moment, error.axis) == (_day(moment), axis)
        return []
    found = [version for version, digit in enumerate(reversed(str(account.balance)), 1) if digit == "1"]
    assert account.version == found[-1]
    return found


@pytest.fixture
def tokyo(database: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The database, as a process and connections in another time zone have it."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    if database.dialect.name == "postgresql":
        event.listen(database, "begin", lambda connection: connection.exec_driver_sql("SET LOCAL TIME ZONE 'Asia/Tokyo'"))
    yield database
    monkeypatch.undo()
    time.tzset()


def test_times_are_read_in_utc_whatever_zone_process_and_connection_are_in(tokyo: Engine) -> None:
    with Session(tokyo) as session:
        account = Account(id=_ID)
        account.apply_event(Deposited(amount=1), occurred_at=START)
        session.add(account)
        session.commit()
        record = session.scalars(select(EventRecord)).one()
        (recorded,) = EventStore(session).events.all()
        for each in (record, recorded):
            assert (each.occurred_at, each.occurred_at.tzinfo) == (START, UTC)
            assert abs(datetime.now(UTC) - each.recorded_at) < timedelta(hours=1)


def test_the_database_says_when_it_recorded_an_event(database: Engine) -> None:
    before = datetime.now(UTC)
    order_id = place_order(database)
    with Session(database) as session:
        (event,) = EventStore(session).events.of(Order, order_id)
        record = session.scalars(select(EventRecord)).one()
        assert record.recorded_at == event.recorded_at
        assert event.recorded_at.tzinfo is UTC
        # SQLite's clock counts milliseconds.
        assert before - timedelta(milliseconds=1) <= event.recorded_at <= datetime.now(UTC)


def test_each_event_has_the_time_of_its_own_writing_not_that_of_the_transaction(database: Engine) -> None:
    with Session(database) as session:
        order = Order.place()
        session.add(order)
        session.flush()
        first = datetime.now(UTC)
        while datetime.now(UTC) - first < timedelta(milliseconds=2):
            session.scalar(text("SELECT 1"))
        order.note("later")
        order.note("in the same statement")
        session.commit()
        one, two, three = (each.recorded_at for each in EventStore(session).events.of(Order, order.id))
        assert one <= first
        assert two > first
        assert three >= two


def test_a_correction_that_arrived_late(database: Engine) -> None:
    with Session(database) as session:
        _write(session, [(1, 1), (2, 2), (1, 9)])
        assert _found(session, 3, "occurred") == [1, 2, 3]
        assert _found(session, 3, "recorded") == [1, 2]
        assert _found(session, 9, "recorded") == [1, 2, 3]
        assert _found(session, 0, "recorded") == []


def test_the_moment_itself_is_included(database: Engine) -> None:
    with Session(database) as session:
        _write(session, [(1, 5)])
        repository = EventSourcedRepository(session, Account)
        assert repository.load_at_time(_ID, _day(5), axis="recorded").version == 1
        with pytest.raises(AggregateNotFoundError, match="recorded by 2020-01-05T23:59:59"):
            repository.load_at_time(_ID, _day(5) - timedelta(microseconds=1), axis="recorded")


def test_after_the_clock_was_set_back_the_answer_is_a_state_the_aggregate_has_had(database: Engine) -> None:
    times = [(0, 1), (0, 6), (0, 4), (0, 8)]
    with Session(database) as session:
        _write(session, times)
        assert [_found(session, day, "recorded") for day in (1, 4, 5, 6, 7, 8)] == [
            [1],
            [1],
            [1],
            [1, 2, 3],
            [1, 2, 3],
            [1, 2, 3, 4],
        ]


@pytest.mark.parametrize("axis", ["occurred", "recorded"])
def test_history_holds_the_events_that_the_aggregate_is_made_of(database: Engine, axis: TimeAxis) -> None:
    times = [(5, 1), (1, 6), (2, 4), (3, 8)]
    with Session(database) as session:
        _write(session, times)
        repository = EventSourcedRepository(session, Account)
        for day in range(10):
            versions = [each.version for each in repository.history(_ID, _day(day), axis=axis)]
            assert versions == _found(session, day, axis) == _known(times, day, axis)
        assert repository.history(_ID, axis=axis).count() == 4


def test_queries_ask_for_either_time(database: Engine) -> None:
    with Session(database) as session:
        _write(session, [(1, 1), (2, 5), (1, 9)])
        events = EventStore(session).events.of(Account)

        def versions(query: Any) -> list[int]:
            return [each.version for each in query]

        assert versions(events.recorded_from(_day(5))) == [2, 3]
        assert versions(events.recorded_until(_day(5))) == [1, 2]
        assert versions(events.occurred_until(_day(1)).recorded_until(_day(5))) == [1]


@pytest.mark.parametrize("axis", ["occurred", "recorded"])
async def test_the_two_times_through_an_async_session(async_database: AsyncEngine, axis: TimeAxis) -> None:
    times = [(1, 1), (2, 2), (1, 9)]
    async with AsyncSession(async_database) as session:
        await session.run_sync(lambda sync: _write(sync, times))
        repository = AsyncEventSourcedRepository(session, Account)
        known = _known(times, 3, axis)
        account = await repository.load_at_time(_ID, _day(3), axis=axis)
        assert (account.balance, account.version) == (sum(10 ** (each - 1) for each in known), known[-1])
        assert [each.version for each in await repository.history(_ID, _day(3), axis=axis).all()] == known
        with pytest.raises(AggregateNotFoundError):
            await repository.load_at_time(_ID, _day(0), axis=axis)
        with pytest.raises(ValueError, match='"occurred"'):
            repository.history(_ID, axis="known")  # type: ignore[arg-type]


def test_a_snapshot_that_was_recorded_later_is_not_used(database: Engine) -> None:
    times = [(1, 1), (1, 2), (1, 3), (1, 4), (1, NOW), (1, NOW)]
    with Session(database) as session:
        _write(session, times)
        assert session.scalar(text("SELECT version FROM snapshots")) == 5
        assert _found(session, 3, "recorded") == [1, 2, 3]
        assert _found(session, LATER, "recorded") == [1, 2, 3, 4, 5, 6]


def test_a_snapshot_that_was_recorded_before_is_used(
    database: Engine,
) -> None:
    with Session(database) as session:
        _write(session, [(1, NOW)] * 7)
        session.execute(text('UPDATE snapshots SET state = \'{"owner": "", "balance": 7, "is_open": false}\''))
        account = EventSourcedRepository(session, Account).load_at_time(_ID, _day(LATER), axis="recorded")
        assert (account.balance, account.version) == (7 + 10**5 + 10**6, 7)


def test_a_long_stream_is_known_to_its_end(database: Engine) -> None:
    with Session(database) as session:
        session.add(account := Account.open())
        for _ in range(60):
            account.deposit(1)
        session.commit()
        account = EventSourcedRepository(session, Account).load_at_time(account.id, _day(LATER), axis="recorded")
        assert (account.version, account.balance) == (61, 60)


def test_the_sessions_own_events_are_known(database: Engine) -> None:
    with Session(database) as session:
        session.add(order := Order.place())
        now = datetime.now(UTC) + timedelta(seconds=1)
        assert EventSourcedRepository(session, Order).load_at_time(order.id, now, axis="recorded").version == 1


@pytest.mark.parametrize("wrong", ["known", None, "Recorded"])
def test_another_axis_is_refused(database: Engine, wrong: Any) -> None:
    with Session(database) as session:
        repository = EventSourcedRepository(session, Account)
        for call in (repository.load_at_time, repository.history):
            with pytest.raises(ValueError, match=r'"occurred" .* or "recorded"'):
                call(_ID, _day(1), axis=wrong)


_days = st.integers(min_value=0, max_value=9)


@pytest.mark.slow_on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples)
@given(times=st.lists(st.tuples(_days, st.one_of(_days, st.just(NOW))), max_size=13))
def test_both_axes_are_the_fold_over_the_events_that_were_there(database: Engine, times: Times) -> None:
    with Session(database) as session:
        _write(session, times)
        for moment in (*range(-1, 10), LATER):
            for axis in ("occurred", "recorded"):
                assert _found(session, moment, axis) == _known(times, moment, axis)


@pytest.mark.slow_on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples)
@given(times=st.lists(st.tuples(_days, _days), max_size=9))
def test_a_later_moment_never_knows_less(database: Engine, times: Times) -> None:
    with Session(database) as session:
        _write(session, times)
        known = [_found(session, moment, "recorded") for moment in range(-1, 10)]
        for earlier, later in itertools.pairwise(known):
            assert later[: len(earlier)] == earlier


_BEFORE_ALL = (datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=timezone(timedelta(hours=5))))
_AFTER_ALL = (datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))))


@pytest.mark.parametrize("axis", ["occurred", "recorded"])
def test_the_ends_of_time_in_any_zone_are_moments_like_others(database: Engine, axis: TimeAxis) -> None:
    order_id = place_order(database)
    with Session(database) as session:
        orders, events = EventSourcedRepository(session, Order), EventStore(session).events
        for moment in _AFTER_ALL:
            assert orders.load_at_time(order_id, moment, axis=axis).version == 1
            assert len(orders.history(order_id, moment, axis=axis).all()) == 1
            assert events.occurred_until(moment).recorded_until(moment).count() == 1
            assert events.occurred_from(moment).count() == events.recorded_from(moment).count() == 0
        for moment in _BEFORE_ALL:
            with pytest.raises(AggregateNotFoundError):
                orders.load_at_time(order_id, moment, axis=axis)
            assert events.occurred_from(moment).recorded_from(moment).count() == 1
            assert events.occurred_until(moment).count() == events.recorded_until(moment).count() == 0


def test_an_event_at_the_earliest_time_is_later_than_the_beginning_of_time(database: Engine) -> None:
    with Session(database) as session:
        account = Account(id=_ID)
        account.apply_event(Deposited(amount=1), occurred_at=EARLIEST)
        session.add(account)
        session.commit()
        for moment in _BEFORE_ALL:
            assert EventStore(session).events.occurred_until(moment).count() == 0
        assert EventStore(session).events.occurred_until(EARLIEST).count() == 1
