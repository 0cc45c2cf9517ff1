"""The manager: which models there are, catching up, lag, rebuilding."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sa_eventsource import (
    DeclarationError,
    EventReplayer,
    ReadModel,
    ReadModelChangedError,
    ReadModelError,
    ReadModelManager,
    RecordedEvent,
    handles,
    load_for_update,
    map_from_event,
)
from sa_eventsource.mapping import tables_on
from sa_eventsource.read_models import count, sum_
from tests.bank import AnyAccount, Deposited
from tests.committing import commit_events
from tests.read_models.shop import Base, Order, OrderList, OrderStats, Rating, Reviewed, UserOrders, place

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def place_orders(engine: Engine, number: int, *, first: int = 0) -> None:
    with Session(engine) as session:
        for each in range(first, first + number):
            session.add(place(f"o-{each:03}", f"c-{each % 9}", "2.50", START + timedelta(days=each % 30)))
        session.commit()


def test_it_lists_the_models_and_what_they_take(engine: Engine) -> None:
    manager = ReadModelManager(engine, Base)
    assert manager.models == (Rating, OrderList, OrderStats, UserOrders)
    status = {each.name: each for each in manager.status()}
    assert status["order_list"].kind == "strong model"
    assert set(status["order_list"].event_types) == {"shop.OrderPlaced", "shop.OrderPaid", "shop.OrderCancelled"}
    assert status["order_stats"].kind == "eventual model"
    assert status["order_stats"].event_types == ("shop.OrderPlaced",)


def test_three_views_of_one_stream_side_by_side(engine: Engine) -> None:
    place_orders(engine, 100)
    ReadModelManager(engine, Base).catch_up()
    with Session(engine) as session:
        number = {
            model.__name__: session.scalar(select(func.count()).select_from(model)) for model in (OrderList, UserOrders, OrderStats)
        }
        assert number == {"OrderList": 100, "UserOrders": 100, "OrderStats": 30}
        assert session.scalar(select(func.count()).select_from(tables_on(Base.metadata).projections)) == 230
        first = session.get_one(OrderStats, date(2026, 1, 1))
        assert (first.order_count, first.daily_total) == (4, Decimal("10.00"))
        assert session.scalar(select(func.sum(OrderStats.order_count))) == 100


def test_an_eventual_model_follows_when_it_is_told_to(engine: Engine) -> None:
    manager = ReadModelManager(engine, Base)
    place_orders(engine, 5)
    with Session(engine) as session:
        assert session.scalars(select(OrderStats)).all() == []
    assert manager.catch_up(OrderStats) == 5
    assert manager.catch_up(OrderStats) == 0
    place_orders(engine, 2, first=5)
    assert manager.catch_up(OrderStats, batch_size=1) == 2
    with Session(engine) as session:
        assert session.scalar(select(func.sum(OrderStats.order_count))) == 7


def test_a_strong_model_has_nothing_to_catch_up_with(engine: Engine) -> None:
    place_orders(engine, 2)
    assert ReadModelManager(engine, Base).catch_up(OrderList) == 0
    ReadModelManager(engine, Base).catch_up()
    with Session(engine) as session:
        assert [row.version for row in session.scalars(select(OrderList))] == [1, 1]


def test_the_lag_counts_what_a_model_has_yet_to_take(engine: Engine) -> None:
    manager = ReadModelManager(sessionmaker(engine), Base)
    place_orders(engine, 3)
    (before,) = manager.status(OrderStats)
    assert before.lag_events == 3
    assert 0 <= before.lag_seconds < 60  # since they were recorded, however long ago they occurred
    assert before.processed_at is None
    manager.catch_up()
    (after,) = manager.status(OrderStats)
    assert (after.lag_events, after.lag_seconds) == (0, 0.0)
    assert after.processed_at is not None
    assert abs(after.processed_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert [each.lag_events for each in manager.status(OrderList)] == [0]


def test_events_that_no_model_takes_are_no_lag(engine: Engine) -> None:
    manager = ReadModelManager(engine, Base)
    with Session(engine) as session:
        session.add(order := place("o-1"))
        session.commit()
        manager.catch_up()
        order.pay()
        session.commit()
    assert manager.status(OrderStats)[0].lag_events == 0


def test_a_transaction_that_commits_late_is_caught_up_with(postgres_engine: Engine) -> None:
    """It took the lower position, and becomes visible after the higher one was taken."""
    manager = ReadModelManager(postgres_engine, Base)
    with Session(postgres_engine) as slow:
        slow.add(place("o-slow", "c-slow", "1.00", START))
        slow.flush()
        place_orders(postgres_engine, 1, first=7)
        assert manager.catch_up(OrderStats) == 1
        assert manager.status(OrderStats)[0].lag_events == 0
        slow.commit()
    assert manager.status(OrderStats)[0].lag_events == 1
    assert manager.catch_up(OrderStats) == 1


def test_a_rebuild_makes_the_rows_anew(engine: Engine) -> None:
    place_orders(engine, 10)
    manager = ReadModelManager(engine, Base)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM projections WHERE id < 'o-005'"))
        connection.execute(text("UPDATE projections SET version = 99"))
    seen: list[int] = []
    models: tuple[tuple[type[ReadModel], int], ...] = ((OrderList, 10), (OrderStats, 10), (UserOrders, 10))
    for model, rows in models:
        assert EventReplayer(engine, Base).rebuild(model, progress=seen.append) == 10
        with Session(engine) as session:
            found = session.scalars(select(model)).all()
            assert len(found) == rows
            assert {row.version for row in found} == {1}
    assert seen == [10, 10, 10]
    assert manager.catch_up() == 0


def test_a_rebuild_runs_handlers_again(engine: Engine) -> None:
    with Session(engine) as session:
        for number in range(5):
            session.add(order := place(f"o-{number}"))
            order.apply_event(Reviewed(stars=number % 2 + 4))
        session.commit()
    with engine.begin() as connection:
        connection.execute(text("UPDATE ratings SET number = 77"))
    assert EventReplayer(engine, Base).rebuild(Rating) == 5
    with Session(engine) as session:
        assert {row.stars: row.number for row in session.scalars(select(Rating))} == {4: 3, 5: 2}


class Other(DeclarativeBase):
    """A base whose models come and go."""


class Account(AnyAccount, Other):
    """What they follow."""


def deposit(engine: Engine, *amounts: int) -> None:
    commit_events(engine, Account, "t", *(Deposited(amount=each) for each in amounts))


def declare(**fields: object) -> type[ReadModel]:
    """Declare the same model again, as the next release of an application does."""
    annotations = dict.fromkeys(fields, Mapped[int])
    return type("Takings", (ReadModel, Other), {"__module__": __name__, "__annotations__": annotations, **fields})


@pytest.mark.filterwarnings("ignore:This declarative base already contains a class")
def test_rows_of_another_declaration_must_be_rebuilt(engine: Engine) -> None:
    before = declare(number=map_from_event(Deposited, reduce=count()))
    Other.metadata.create_all(engine)
    manager = ReadModelManager(engine, Other)
    deposit(engine, 1)
    manager.catch_up(before)
    after = declare(number=map_from_event(Deposited, reduce=count()), total=map_from_event(Deposited, reduce=sum_("amount")))
    deposit(engine, 2)
    assert manager.status(after)[0].state == "outdated"
    with pytest.raises(ReadModelChangedError, match="rebuild"):
        manager.catch_up(after)
    EventReplayer(engine, Other).rebuild(after)
    assert manager.status(after)[0].state != "outdated"
    deposit(engine, 3)
    assert manager.catch_up(after) == 1
    with Session(engine) as session:
        row = session.scalars(select(after)).one()
        assert (vars(row)["number"], vars(row)["total"]) == (3, 6)


class Refusing(ReadModel, Other):
    """Takes no more than five."""

    __tablename__ = "refusing"
    __projection_name__ = "refusing"

    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Deposited)
    def _deposited(cls, event: RecordedEvent[Deposited], session: Session) -> None:
        if event.event.amount > 5:
            raise ValueError("too much")
        load_for_update(session, cls, event.aggregate_id).number += 1


def test_an_event_that_a_handler_refuses_stops_the_model_where_it_is(engine: Engine) -> None:
    Other.metadata.create_all(engine)
    manager = ReadModelManager(engine, Other)
    for amount in (1, 2, 9, 3):
        deposit(engine, amount)
    with pytest.raises(ReadModelError, match="too much") as caught:
        manager.catch_up(Refusing, batch_size=1)
    assert caught.value.model == "refusing"
    assert "version 3" in caught.value.events[0]
    assert manager.status(Refusing)[0].lag_events == 2
    with Session(engine) as session:
        assert session.get_one(Refusing, "t").number == 2
    with pytest.raises(ReadModelError, match="too much"):
        EventReplayer(engine, Other).rebuild(Refusing)
    with Session(engine) as session:
        assert session.get_one(Refusing, "t").number == 2


def test_what_is_no_read_model_is_refused(engine: Engine) -> None:
    with pytest.raises(DeclarationError, match="Order is not a mapped read model but an aggregate"):
        ReadModelManager(engine, Base).catch_up(Order)
    with pytest.raises(DeclarationError, match=r"Strange is not a mapped read model; .*class Strange\(ReadModel, Base\)"):
        EventReplayer(engine, Base).rebuild(type("Strange", (), {}))
    with pytest.raises(TypeError, match="given as its class, such as OrderReadModel, not 'OrderRow'"):
        EventReplayer(engine, Base).rebuild("OrderRow")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["9", 0, -1, True, 1.5])
def test_catching_up_in_batches_of_no_number_is_refused(engine: Engine, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="batch_size must be how many events"):
        ReadModelManager(engine, Base).catch_up(batch_size=value)
