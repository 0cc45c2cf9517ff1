"""One flush that writes to two logs: the error names the stream that was in the way, whichever log it is in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    ConcurrencyError,
    EventAlreadyAppendedError,
    EventContext,
    EventIdConflictError,
    EventSourceOptions,
    EventStore,
)
from tests.committing import commit_events
from tests.shop import AnyTill, Sold
from tests.statement_log import record_statements

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


class Sales(DeclarativeBase):
    """The base of one log."""


class Billing(DeclarativeBase):
    """The base of the other, whose table comes first by name."""

    __eventsource__ = EventSourceOptions(events="billing_events", snapshots="billing_snapshots")


class Sale(AnyTill, Sales):
    """Kept in one log."""


class Bill(AnyTill, Billing):
    """Kept in the other."""


BOTH: tuple[type[Any], ...] = (Sale, Bill)


@pytest.fixture
def tables() -> MetaData | None:
    return None


@pytest.fixture
def logs(engine: Engine) -> Engine:
    """A database with both logs, and a sale and a bill ``"1"`` in them."""
    Sales.metadata.create_all(engine)
    Billing.metadata.create_all(engine)
    write(engine, [new(each, "1") for each in BOTH])
    return engine


def new(aggregate_class: type[Any], aggregate_id: str, **given: Any) -> Any:
    aggregate = aggregate_class(id=aggregate_id)
    aggregate.apply_event(Sold(), **given)
    return aggregate


def write(engine: Engine, aggregates: Iterable[Any], *, info: dict[Any, Any] | None = None) -> None:
    with Session(engine, info=info or {}) as session:
        session.add_all(aggregates)
        session.commit()


def stored(engine: Engine) -> list[list[tuple[str, int]]]:
    with Session(engine) as session:
        return [[(each.aggregate_id, each.version) for each in EventStore(session, base).events] for base in (Sales, Billing)]


@pytest.mark.parametrize("changed", BOTH)
def test_a_conflict_names_the_stream_that_has_moved_on(logs: Engine, changed: type[Any]) -> None:
    with Session(logs, expire_on_commit=False) as session:
        loaded = [session.get_one(each, "1") for each in BOTH]
        session.commit()  # SQLite would not let others write
        commit_events(logs, changed, "1", Sold())
        for each in loaded:
            each.apply_event(Sold())
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
    error = caught.value
    assert (error.aggregate_type, error.expected_version, error.actual_version) == (changed.__name__, 1, 2)
    assert sorted(map(len, stored(logs))) == [1, 2]


@pytest.mark.parametrize("changed", BOTH)
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_so_it_does_where_the_transaction_goes_on_and_cannot_see_it(
    postgres_engine: Engine, level: str, changed: type[Any]
) -> None:
    engine = postgres_engine
    Sales.metadata.create_all(engine)
    Billing.metadata.create_all(engine)
    write(engine, [new(each, "1") for each in BOTH])
    with Session(engine.execution_options(isolation_level=level)) as session:
        loaded = [session.get_one(each, "1") for each in BOTH]
        commit_events(engine, changed, "1", Sold())
        with pytest.raises(ConcurrencyError) as caught, session.begin_nested():
            for each in loaded:
                each.apply_event(Sold())
    assert (caught.value.aggregate_type, caught.value.actual_version) == (changed.__name__, None)


@pytest.mark.parametrize("repeated", BOTH)
@pytest.mark.parametrize("info", [{}, {"event_context": EventContext(metadata={"user": "ann"})}], ids=["plainly", "in a context"])
def test_a_message_that_comes_twice_is_already_appended_and_what_is_new_beside_it_is_named(
    logs: Engine, repeated: type[Any], info: dict[Any, Any]
) -> None:
    message: dict[str, Any] = {"event_id": uuid4(), "occurred_at": MOMENT}
    beside = Bill if repeated is Sale else Sale
    write(logs, [new(repeated, "2", **message), new(beside, "2")], info=info)
    with pytest.raises(EventAlreadyAppendedError) as caught:
        write(logs, [new(repeated, "2", **message), new(beside, "3")], info=info)
    error = caught.value
    assert (error.aggregate_type, error.aggregate_id) == (repeated.__name__, "2")
    assert error.others == ((beside.__name__, "3"),)
    assert stored(logs) == [[("1", 1), ("2", 1)]] * 2


def test_where_all_of_it_comes_twice_nothing_is_said_to_be_new(logs: Engine) -> None:
    messages: list[dict[str, Any]] = [{"event_id": uuid4(), "occurred_at": MOMENT} for _ in BOTH]
    write(logs, [new(each, "2", **message) for each, message in zip(BOTH, messages, strict=True)])
    with pytest.raises(EventAlreadyAppendedError) as caught:
        write(logs, [new(each, "2", **message) for each, message in zip(BOTH, messages, strict=True)])
    assert caught.value.others == ()


@pytest.mark.parametrize("repeated", BOTH)
def test_a_conflict_in_one_log_goes_before_a_repetition_in_the_other(logs: Engine, repeated: type[Any]) -> None:
    message: dict[str, Any] = {"event_id": uuid4(), "occurred_at": MOMENT}
    beside = Bill if repeated is Sale else Sale
    write(logs, [new(repeated, "2", **message)])
    with pytest.raises(ConcurrencyError) as caught:
        write(logs, [new(repeated, "2", **message), new(beside, "1")])
    assert (caught.value.aggregate_type, caught.value.aggregate_id) == (beside.__name__, "1")


@pytest.mark.parametrize("taken", BOTH)
def test_an_id_that_is_taken_in_one_log_is_named(logs: Engine, taken: type[Any]) -> None:
    event_id = uuid4()
    write(logs, [new(taken, "2", event_id=event_id)])
    with pytest.raises(EventIdConflictError) as caught:
        write(logs, [new(Bill if taken is Sale else Sale, "3"), new(taken, "3", event_id=event_id)])
    assert (caught.value.event_id, caught.value.aggregate_type) == (event_id, taken.__name__)


def test_one_id_may_be_in_both_logs(logs: Engine) -> None:
    event_id = uuid4()
    write(logs, [new(each, "2", event_id=event_id) for each in BOTH])
    assert stored(logs) == [[("1", 1), ("2", 1)]] * 2


def test_an_event_behind_one_that_is_not_stored_is_named_and_no_stream_that_the_rollback_has_undone(logs: Engine) -> None:
    with Session(logs) as session:
        flushed, ahead = new(Sale, "2"), new(Bill, "2")
        session.add(flushed)
        session.flush()
        flushed.apply_event(Sold())
        ahead.apply_event(Sold())
        ahead.__dict__["_sa_eventsource"].pending.pop(0)  # as after a restore of the log from a backup
        session.add(ahead)
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
    assert (caught.value.aggregate_type, caught.value.actual_version) == (Bill.__name__, 0)


@pytest.mark.parametrize("is_loaded", [False, True], ids=["new", "loaded"])
@pytest.mark.parametrize("order", [BOTH, BOTH[::-1]], ids=["as declared", "the other way"])
def test_logs_are_written_in_one_order(logs: Engine, order: Sequence[type[Any]], *, is_loaded: bool) -> None:
    with Session(logs) as session:
        aggregates = [session.get_one(each, "1") if is_loaded else new(each, "2") for each in order]
        if is_loaded:
            for each in aggregates:
                each.apply_event(Sold())
        session.add_all(aggregates)
        with record_statements(logs) as statements:
            session.commit()
    inserts = [each for each in statements if each.startswith("INSERT") or " INSERT INTO " in each]
    assert ["billing_events" in each for each in inserts] == [True, False]
