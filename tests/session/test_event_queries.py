"""EventStore's queries, and plain select(EventRecord)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from sa_eventsource import EventQuery, EventRecord, EventStore, UnknownEventTypeError, event_context
from tests.committing import changing_events
from tests.orders import Base, Order, Till
from tests.session.helpers import place_order
from tests.shop import NoteAdded, OrderPaid, OrderPlaced, OrderShipped

START = datetime(2026, 1, 1, tzinfo=UTC)
CORRELATION, CAUSE = uuid4(), uuid4()


@pytest.fixture
def log(database: Engine) -> Engine:
    """Two orders and a till: six events."""
    first, second, till = Order(id="o-1"), Order(id="o-2"), Till(id=1)
    with Session(database) as session:
        session.add(first)
        first.apply_event(OrderPlaced(customer_id="c-1", lines=(), total=Decimal(5)), occurred_at=START)
        with event_context(correlation_id=CORRELATION, causation_id=CAUSE, user="ann", level=3):
            first.apply_event(OrderPaid(payment_id="p"), occurred_at=START + timedelta(days=1))
        session.flush()
        with event_context(correlation_id=CORRELATION, user="ben"):
            second.apply_event(NoteAdded(text="a"), occurred_at=START + timedelta(days=2))
        second.apply_event(NoteAdded(text="b"), occurred_at=START + timedelta(days=3))
        session.add(second)
        session.flush()
        first.apply_event(OrderShipped(carrier="post", tracking_number="t"), occurred_at=START + timedelta(days=4))
        session.flush()
        till.sell("lamp")
        session.add(till)
        session.commit()
    return database


def _places(query: EventQuery[Any]) -> list[tuple[str, int]]:
    return [(each.aggregate_id, each.version) for each in query]


ALL = [("o-1", 1), ("o-1", 2), ("o-2", 1), ("o-2", 2), ("o-1", 3), ("1", 1)]

QUERIES: dict[str, tuple[Callable[[EventQuery[Any]], EventQuery[Any]], list[tuple[str, int]]]] = {
    "all": (lambda events: events, ALL),
    "of a class": (lambda events: events.of(Till), [("1", 1)]),
    "of one aggregate": (lambda events: events.of(Order, "o-1"), [("o-1", 1), ("o-1", 2), ("o-1", 3)]),
    "of nobody": (lambda events: events.of(Order, "o-9"), []),
    "from a version": (lambda events: events.of(Order, "o-1").from_version(2), [("o-1", 2), ("o-1", 3)]),
    "to a version": (lambda events: events.of(Order, "o-1").to_version(2), [("o-1", 1), ("o-1", 2)]),
    "of a type": (lambda events: events.of_type(NoteAdded), [("o-2", 1), ("o-2", 2)]),
    "of two types": (lambda events: events.of_type(OrderPaid, OrderShipped), [("o-1", 2), ("o-1", 3)]),
    "from a time": (lambda events: events.of(Order).occurred_from(START + timedelta(days=3)), [("o-2", 2), ("o-1", 3)]),
    "until a time": (lambda events: events.occurred_until(START + timedelta(days=1)), [("o-1", 1), ("o-1", 2)]),
    "correlated": (lambda events: events.correlated_with(CORRELATION), [("o-1", 2), ("o-2", 1)]),
    "caused": (lambda events: events.caused_by(CAUSE), [("o-1", 2)]),
    "with metadata": (lambda events: events.with_metadata(user="ann"), [("o-1", 2)]),
    "with several metadata": (lambda events: events.with_metadata(user="ann", level=3), [("o-1", 2)]),
    "with other metadata": (lambda events: events.with_metadata(user="ann", level=4), []),
    "backward": (lambda events: events.backward(), ALL[::-1]),
    "limited": (lambda events: events.limit(2), ALL[:2]),
    "limited backward": (lambda events: events.backward().limit(2), ALL[::-1][:2]),
    "limited to none": (lambda events: events.limit(0), []),
    "chained": (
        lambda events: events.of(Order).from_version(2).of_type(NoteAdded, OrderShipped).backward(),
        [("o-1", 3), ("o-2", 2)],
    ),
}


@pytest.mark.parametrize(("narrow", "expected"), QUERIES.values(), ids=QUERIES.keys())
def test_a_query_finds_counts_and_streams_the_same(log: Engine, narrow: Any, expected: list[tuple[str, int]]) -> None:
    with Session(log) as session:
        query = narrow(EventStore(session, Order).events)
        assert _places(query) == expected
        assert query.count() == len(expected)
        assert [(each.aggregate_id, each.version) for each in query.stream(batch_size=2)] == expected
        first = query.first()
        assert (None if first is None else (first.aggregate_id, first.version)) == (expected[0] if expected else None)


def test_a_query_is_never_changed_by_narrowing_it(log: Engine) -> None:
    with Session(log) as session:
        events = EventStore(session).events
        events.of(Order).from_version(2).backward().limit(1).of_type(NoteAdded)
        assert _places(events) == ALL


def test_a_recorded_event_knows_all(log: Engine) -> None:
    with Session(log) as session:
        store = EventStore(session)
        found = store.events.of_type(OrderPaid).first()
        assert found is not None
        assert found.event == OrderPaid(payment_id="p")
        assert (found.event_type, found.event_version, found.version) == ("shop.OrderPaid", 1, 2)
        assert (found.correlation_id, found.causation_id) == (CORRELATION, CAUSE)
        assert found.metadata == {"user": "ann", "level": 3}
        assert found.occurred_at == START + timedelta(days=1)
        assert store.get(found.event_id) == found
        assert store.get(uuid4()) is None


def test_positions(log: Engine) -> None:
    with Session(log) as session:
        store = EventStore(session)
        positions = [each.position for each in store.events]
        assert positions == sorted(positions)
        assert store.last_position() == positions[-1]
        assert [each.position for each in store.events.after_position(positions[2])] == positions[3:]


def test_an_empty_log(database: Engine) -> None:
    with Session(database) as session:
        store = EventStore(session)
        assert (store.last_position(), store.events.count(), store.events.first(), store.events.all()) == (0, 0, None, [])


def test_a_negative_limit_is_refused(database: Engine) -> None:
    with Session(database) as session, pytest.raises(ValueError, match="0 or more"):
        EventStore(session).events.limit(-1)


def test_a_time_without_zone_is_refused(log: Engine) -> None:
    with Session(log) as session, pytest.raises(Exception, match="time zone"):
        EventStore(session).events.occurred_from(datetime(2026, 1, 1)).all()  # noqa: DTZ001


def test_reading_flushes_the_sessions_own_events(database: Engine) -> None:
    with Session(database) as session:
        session.add(Order.place(order_id="o-1"))
        assert _places(EventStore(session).events) == [("o-1", 1)]


def test_an_event_of_an_unknown_type_is_named(postgres: Engine) -> None:
    place_order(postgres, "o-1")
    with changing_events(postgres, Base) as connection:
        connection.execute(text("UPDATE events SET event_type = 'shop.Forgotten'"))
    with Session(postgres) as session:
        with pytest.raises(UnknownEventTypeError, match=r"shop\.Forgotten"):
            EventStore(session).events.all()
        with pytest.raises(UnknownEventTypeError, match=r"shop\.Forgotten") as caught:
            session.get(Order, "o-1")
        assert caught.value.event_id is not None


@pytest.mark.slow
def test_a_stream_of_many_events_stays_in_bounded_memory(postgres: Engine) -> None:
    with postgres.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at) "
                "SELECT gen_random_uuid(), 'Order', 'o-' || n / 100, n % 100 + 1, 'shop.NoteAdded', "
                "jsonb_build_object('text', repeat('x', 200)), now() FROM generate_series(0, 49999) AS n"
            )
        )
    with Session(postgres) as session:
        query = EventStore(session).events.of_type(NoteAdded)
        for _ in query.limit(2000).stream(500):  # warm the caches
            pass
        tracemalloc.start()
        try:
            count = 0
            for _ in query.stream(batch_size=500):
                count += 1
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert count == 50_000
        assert peak < 8_000_000  # all of them take some 70 MB


def test_a_stream_can_be_left_early(log: Engine) -> None:
    with Session(log) as session:
        stream: Any = EventStore(session).events.stream(batch_size=1)
        assert next(stream).aggregate_id == "o-1"
        stream.close()
        assert EventStore(session).events.count() == len(ALL)
        session.commit()


def test_plain_selects_of_records(log: Engine) -> None:
    with Session(log) as session:
        paid = session.scalars(select(EventRecord).where(EventRecord.event_type == "shop.OrderPaid")).one()
        assert paid.event_data == {"payment_id": "p"}
        assert paid.metadata == {"user": "ann", "level": 3}
        assert paid.occurred_at == START + timedelta(days=1)
        assert repr(paid) == "<EventRecord shop.OrderPaid Order o-1 v2>"
        by_type = select(EventRecord.aggregate_type, func.count()).group_by(EventRecord.aggregate_type)
        assert sorted(tuple(row) for row in session.execute(by_type)) == [("Order", 5), ("Till", 1)]
