"""Closing a stream: nothing follows the event that says so, whoever appends."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, MetaData, create_engine, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from sa_eventsource import (
    AsyncEventSourcedRepository,
    DeclarationError,
    EventSourcedRepository,
    EventStore,
    ExpectedVersion,
    LogImportError,
    ReadOnlyAggregateError,
    StreamClosed,
    StreamClosedError,
    event_context,
    export_events,
    import_events,
    problem_details,
)
from sa_eventsource.session.retry import is_conflict, retry_on_conflict
from tests.orders import Account, Order
from tests.orders import Base as Orders
from tests.session.helpers import kinds_of_statements, place_order, stored_types
from tests.shop import NoteAdded, OrderStatus

EVENTS = Orders.metadata.tables["events"]


@pytest.fixture
def tables() -> MetaData | None:
    return Orders.metadata


def closed_order(engine: Engine, *, notes: int = 0, reason: str = "delivered") -> str:
    order_id = place_order(engine, notes=notes)
    with Session(engine) as session:
        session.get_one(Order, order_id).close_stream(reason)
        session.commit()
    return order_id


def as_said(error: StreamClosedError) -> tuple[str, str, int, str]:
    return error.aggregate_type, error.aggregate_id, error.version, error.reason


# --- the event ---


def test_closing_is_an_event_of_the_stream(engine: Engine) -> None:
    order_id, moment, event_id = place_order(engine), datetime(2026, 3, 1, tzinfo=UTC), UUID(int=7)
    with Session(engine) as session, event_context(user="ann"):
        order = session.get_one(Order, order_id)
        assert not order.is_stream_closed
        order.close_stream("delivered", occurred_at=moment, event_id=event_id)
        assert order.is_stream_closed
        assert order.pending_events == (StreamClosed(reason="delivered"),)
        session.commit()
    assert stored_types(engine) == ["OrderPlaced", "sa_eventsource.StreamClosed"]
    with Session(engine) as session:
        last = EventStore(session, Order).events.of(Order, order_id).all()[-1]
        assert (last.event, last.version) == (StreamClosed(reason="delivered"), 2)
        assert (last.occurred_at, last.event_id, last.metadata) == (moment, event_id, {"user": "ann"})


def test_a_closed_stream_is_loaded_and_looked_back_on(engine: Engine) -> None:
    order_id = closed_order(engine, notes=2)
    with Session(engine) as session:
        order = session.get_one(Order, order_id)
        assert (order.version, order.is_stream_closed, order.status) == (4, True, OrderStatus.PLACED)
        repository = EventSourcedRepository(session, Order)
        before = repository.load_at_version(order_id, 3)
        assert (before.notes, before.is_stream_closed) == (["note 0", "note 1"], False)
        now = repository.load_at_time(order_id, datetime.now(UTC) + timedelta(days=1))
        assert (now.version, now.is_stream_closed) == (4, True)
        with pytest.raises(ReadOnlyAggregateError):
            now.note("late")


def test_no_event_inherits_from_it() -> None:
    with pytest.raises(DeclarationError, match="close_stream"):
        type("Withered", (StreamClosed,), {"__module__": __name__})


def test_a_stream_may_be_closed_by_its_first_event(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order(id="never")
        order.close_stream()
        session.add(order)
        session.commit()
    with Session(engine) as session, pytest.raises(StreamClosedError):
        session.get_one(Order, "never").note("late")


# --- who is refused ---


def test_an_event_behind_it_is_refused_before_anything_changes(engine: Engine) -> None:
    order_id = closed_order(engine)
    with Session(engine) as session:
        order = session.get_one(Order, order_id)
        lates: list[Callable[[], None]] = [lambda: order.note("late"), lambda: order.close_stream("twice")]
        for late in lates:
            with pytest.raises(StreamClosedError, match="delivered") as caught:
                late()
            assert as_said(caught.value) == ("Order", order_id, 2, "delivered")
            assert isinstance(caught.value, InvalidRequestError)
            assert not isinstance(caught.value, StaleDataError)
        assert (order.version, order.notes, order.pending_events) == (2, [], ())
        session.commit()
    assert len(stored_types(engine)) == 2


def test_it_is_refused_before_the_flush_too(engine: Engine) -> None:
    order = Order.place()
    order.close_stream("at once")
    with pytest.raises(StreamClosedError) as caught:
        order.note("late")
    assert caught.value.version == 2
    with Session(engine) as session:
        session.add(order)
        session.commit()
    assert len(stored_types(engine)) == 2


@pytest.mark.parametrize("how", ["refresh", "expire", "rollback", "pickle", "populate", "select"])
def test_it_is_known_however_the_state_is_loaded(engine: Engine, how: str) -> None:
    order_id = closed_order(engine)
    with Session(engine) as session:
        order: Any = session.get_one(Order, order_id)
        if how == "refresh":
            session.refresh(order)
        elif how == "expire":
            session.expire(order)
        elif how == "rollback":
            session.rollback()
        elif how == "pickle":
            session.expunge(order)
            order = pickle.loads(pickle.dumps(order))
        elif how == "populate":
            order = session.get(Order, order_id, populate_existing=True)
        else:
            session.expunge_all()
            order = session.query(Order).one()
        with pytest.raises(StreamClosedError):
            order.note("late")


def test_a_rollback_opens_it_again(engine: Engine) -> None:
    order_id = place_order(engine)
    with Session(engine) as session:
        order = session.get_one(Order, order_id)
        order.close_stream()
        session.flush()
        session.rollback()
        assert not order.is_stream_closed
        with session.begin_nested() as savepoint:
            order.close_stream()
            session.flush()
            savepoint.rollback()
        order.note("goes on")
        session.commit()
    assert stored_types(engine) == ["OrderPlaced", "NoteAdded"]


def test_a_new_aggregate_keeps_its_end_over_a_rollback(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order.place()
        order.close_stream()
        session.add(order)
        session.flush()
        session.rollback()
        assert order.is_stream_closed
        with pytest.raises(StreamClosedError):
            order.note("late")


@pytest.mark.parametrize(
    "expected", [ExpectedVersion.ANY, ExpectedVersion.NO_STREAM, 0, 1, 3, 9], ids=["any", "no-stream", "0", "1", "3", "9"]
)
def test_an_append_that_knows_no_state_is_refused(engine: Engine, expected: Any) -> None:
    order_id = closed_order(engine, notes=1)
    with Session(engine) as session:
        repository = EventSourcedRepository(session, Order)
        with pytest.raises(StreamClosedError) as caught:
            repository.append(order_id, [NoteAdded(text="late")], expected_version=expected)
        assert as_said(caught.value) == ("Order", order_id, 3, "delivered")
        session.commit()
    assert len(stored_types(engine)) == 3


def test_an_append_may_close_and_nothing_may_stand_behind_it(engine: Engine) -> None:
    order_id = place_order(engine)
    with Session(engine) as session:
        repository = EventSourcedRepository(session, Order)
        with pytest.raises(StreamClosedError) as caught:
            repository.append(order_id, [StreamClosed(reason="over"), NoteAdded(text="late")], expected_version=1)
        assert as_said(caught.value) == ("Order", order_id, 2, "over")
        assert repository.append(order_id, [NoteAdded(text="in time"), StreamClosed()], expected_version=1) == 3
        with pytest.raises(StreamClosedError):
            repository.append(order_id, [NoteAdded(text="late")], expected_version=3)
        session.commit()
    assert stored_types(engine) == ["OrderPlaced", "NoteAdded", "sa_eventsource.StreamClosed"]


async def test_an_async_append_is_refused(async_engine: AsyncEngine) -> None:
    async with AsyncSession(async_engine) as session:
        order = Order.place()
        order.close_stream("over")
        session.add(order)
        order_id = order.id
        await session.commit()
        with pytest.raises(StreamClosedError):
            await AsyncEventSourcedRepository(session, Order).append(
                order_id, [NoteAdded(text="late")], expected_version=ExpectedVersion.ANY
            )


def test_a_new_aggregate_with_its_id_is_refused(engine: Engine) -> None:
    order_id = closed_order(engine)
    with Session(engine) as session:
        session.add(Order.place(order_id=order_id))
        with pytest.raises(StreamClosedError):
            session.commit()


def test_an_import_does_not_go_on_with_it(engine: Engine) -> None:
    order_id = closed_order(engine)
    with engine.connect() as connection:
        lines = list(export_events(connection, EVENTS))
        last = lines[-1].replace('"version":2', '"version":3').replace("StreamClosed", "Note")
        late = _as_another(last).replace('"sa_eventsource.Note"', '"shop.NoteAdded"').replace('"reason":', '"text":')
        for attempt in (
            [lines[0].replace('"count":2', '"count":1'), late],
            [lines[0].replace('"count":2', '"count":3'), *lines[1:], late],
        ):
            with pytest.raises(LogImportError, match=f"{order_id}.* was closed at version 2"):
                import_events(connection, EVENTS, attempt)
            connection.rollback()


def test_an_import_brings_no_event_behind_the_end(engine: Engine, tmp_path: Any) -> None:
    order_id = closed_order(engine)
    other = create_engine(f"sqlite:///{tmp_path}/other.db")
    Orders.metadata.create_all(other)
    with engine.connect() as connection:
        lines = list(export_events(connection, EVENTS))
    late = _as_another(lines[-1].replace('"version":2', '"version":3'))
    with other.begin() as connection, pytest.raises(LogImportError, match=f"{order_id}.* was closed at version 2"):
        import_events(connection, EVENTS, [lines[0].replace('"count":2', '"count":3'), *lines[1:], late])
    with engine.begin() as connection:
        assert import_events(connection, EVENTS, lines).skipped == 2
    with other.begin() as connection:
        assert import_events(connection, EVENTS, lines).added == 2
    with Session(other) as session:
        assert session.get_one(Order, order_id).is_stream_closed
    other.dispose()


def _as_another(line: str) -> str:
    begin = line.index('"event_id":"') + len('"event_id":"')
    position = line.index('"position":') + len('"position":')
    end = line.index(",", position)
    assert begin > end
    return f"{line[:position]}{int(line[position:end]) + 1}{line[end:begin]}{UUID(int=99)}{line[begin + 36 :]}"


# --- races ---


def test_who_loaded_before_and_commits_after_loses(engine: Engine) -> None:
    order_id = place_order(engine)
    with Session(engine) as session:
        order = session.get_one(Order, order_id)
        session.commit()  # SQLite has one writer at a time
        order = session.get_one(Order, order_id)
        session.expunge(order)
        session.rollback()
        with Session(engine) as other:
            other.get_one(Order, order_id).close_stream("sold")
            other.commit()
        session.add(order)
        order.note("late")
        with pytest.raises(StreamClosedError) as caught:
            session.commit()
        assert as_said(caught.value) == ("Order", order_id, 2, "sold")
        session.rollback()
        assert not is_conflict(caught.value)
    assert len(stored_types(engine)) == 2


def test_one_of_two_who_close_is_told(postgres_engine: Engine) -> None:
    order_id = place_order(postgres_engine)
    with Session(postgres_engine) as one, Session(postgres_engine) as two:
        one.get_one(Order, order_id).close_stream("first")
        two.get_one(Order, order_id).close_stream("second")
        one.commit()
        with pytest.raises(StreamClosedError, match="first"):
            two.commit()


def test_a_retry_ends_with_the_first_attempt(postgres_engine: Engine) -> None:
    order_id, attempts = place_order(postgres_engine), []

    @retry_on_conflict(attempts=5)
    def note() -> None:
        attempts.append(1)
        with Session(postgres_engine) as session:
            order = session.get_one(Order, order_id)
            with Session(postgres_engine) as other:
                other.get_one(Order, order_id).close_stream("sold")
                other.commit()
            order.note("late")
            session.commit()

    with pytest.raises(StreamClosedError):
        note()
    assert len(attempts) == 1


def test_of_threads_that_append_and_close_none_gets_behind_the_end(postgres_engine: Engine) -> None:
    engine = create_engine(postgres_engine.url, pool_size=8)
    for round_number in range(4):
        order_id = place_order(engine)
        start, unexpected = threading.Barrier(6), list[BaseException]()

        def append(work: Callable[[Session], object]) -> None:
            start.wait(timeout=30)
            for _ in range(500):
                try:
                    with Session(engine) as session:
                        work(session)
                        session.commit()
                except StreamClosedError:
                    return
                except Exception as error:
                    if not is_conflict(error):
                        unexpected.append(error)

        def note(session: Session) -> None:
            session.get_one(Order, order_id).note("n")

        def any_version(session: Session) -> None:
            EventSourcedRepository(session, Order).append(
                order_id,
                [NoteAdded(text="a")],
                expected_version=ExpectedVersion.ANY,
            )

        def at_the_end(session: Session) -> None:
            last = session.get_one(Order, order_id).version
            EventSourcedRepository(session, Order).append(order_id, [NoteAdded(text="e")], expected_version=last)

        def close(session: Session) -> None:
            if session.get_one(Order, order_id).version > round_number:
                session.get_one(Order, order_id).close_stream("over")

        threads = [threading.Thread(target=append, args=(work,)) for work in (note, note, any_version, at_the_end, close, close)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert unexpected == []
        with engine.connect() as connection:
            statement = text("SELECT version, event_type FROM events WHERE aggregate_id = :id ORDER BY version")
            rows = connection.execute(statement, {"id": order_id}).all()
        assert [row.version for row in rows] == list(range(1, len(rows) + 1))
        ends = [row.version for row in rows if row.event_type == "sa_eventsource.StreamClosed"]
        assert ends == [len(rows)]
    engine.dispose()


# --- cost ---


def test_closing_is_one_statement_as_any_commit_of_events(postgres_engine: Engine) -> None:
    order_id = place_order(postgres_engine)
    with Session(postgres_engine) as session:
        order = session.get_one(Order, order_id)
        session.commit()
        order = session.get_one(Order, order_id)
        with kinds_of_statements(postgres_engine) as kinds:
            order.close_stream()
            session.commit()
    assert kinds == ["INSERT", "COMMIT"]


def test_a_closed_account_is_told_to_the_web_as_a_conflict(engine: Engine) -> None:
    account = Account.open()
    account.close_stream("moved")
    with pytest.raises(StreamClosedError) as caught:
        account.deposit(5)
    problem = problem_details(caught.value)
    assert (problem.status, problem.extensions["reason"], problem.extensions["version"]) == (409, "moved", 2)
