"""Read models in all four ways, subscriptions, process managers and publishers, on events that are read as several or as none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, MetaData, inspect, select, text
from sqlalchemy.orm import Session

from sa_eventsource import DeliveryDelayedError, EventReplayer, EventStore, ReadModelManager, Worker, fold, upcast
from sa_eventsource.checkpoints import lock_checkpoint, next_batch
from sa_eventsource.consumers import Delivery, Relay, consumers_on, followers_of
from sa_eventsource.events import DomainEvent
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections import take_step
from sa_eventsource.projections.processing import process_batch
from sa_eventsource.verification import verify
from tests.read_models.test_four_ways import differences
from tests.splitting.kiosk import (
    FOLDED,
    HISTORY,
    MORNING,
    OPENED,
    SOLD,
    SOLD_WITH_GIFT,
    TICKED,
    Base,
    CashAdded,
    ItemPaid,
    ItemTaken,
    Journal,
    Kiosk,
    OpenItem,
    Restocking,
    Takings,
    calls,
    store,
)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture(autouse=True)
def no_calls() -> Iterator[None]:
    calls.clear()
    yield
    calls.clear()


def _meant(engine: Engine, model: type[Any]) -> dict[Any, dict[str, Any]]:
    with Session(engine) as session:
        return fold(model, EventStore(session, Base).events.all())


def _check(engine: Engine, way: str) -> None:
    for model in FOLDED:
        with Session(engine) as session:
            found = differences(session, model, _meant(engine, model))
        assert not found, f"{model.__name__} by {way}: {found}"


def test_a_later_part_is_the_later_event_of_a_row(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
    EventReplayer(engine, Base).rebuild(Takings)
    EventReplayer(engine, Base).rebuild(OpenItem)
    with Session(engine) as session:
        row = session.get_one(Takings, "north")
        assert (row.latest, row.began, row.taken, row.cash) == ("left", "first", 4, 56)
        assert row.steps == ["tea", "tea", "milk", "tea", "tea", "mint"]
        assert (session.get_one(OpenItem, "north").item, session.get_one(OpenItem, "north").number) == ("mint", 1)


STORED: list[tuple[str, int, dict[str, Any]]] = [
    ("kiosk.Opened", 1, OPENED),
    ("kiosk.Opened", 2, {"name": "West"}),
    ("kiosk.Ticked", 1, TICKED),
    ("kiosk.Sold", 1, SOLD),
    ("kiosk.Sold", 2, SOLD_WITH_GIFT),
    ("kiosk.Sold", 2, {"item": "milk", "price": 2, "till": "right", "gifts": ["milk", "tea"]}),
    ("kiosk.ItemTaken", 1, {"item": "tea", "till": "new"}),
    ("kiosk.ItemPaid", 1, {"item": "milk", "price": 9}),
    ("kiosk.CashAdded", 1, {"amount": 7}),
]
PHASES = [each for each in Phase if each not in (Phase.shrink, Phase.explain) or settings().max_examples > 100]
EMPTY = "TRUNCATE events, projections, snapshots, projection_positions, parked_events, kiosk_items, kiosk_journal RESTART IDENTITY"


@pytest.mark.slow_on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], phases=PHASES)
@given(
    st.lists(st.tuples(st.sampled_from(["north", "south"]), st.sampled_from(STORED)), min_size=1, max_size=12), st.integers(1, 3)
)
def test_all_ways_agree_on_any_history(
    engine: Engine, history: list[tuple[str, tuple[str, int, dict[str, Any]]]], batch: int
) -> None:
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = on"))
            connection.execute(text(EMPTY))
    if engine.dialect.name != "postgresql":
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
    manager, replayer = ReadModelManager(engine, Base), EventReplayer(engine, Base)
    versions: dict[str, int] = {"north": 0, "south": 0}
    middle = len(history) // 2
    for part in (history[:middle], history[middle:]):
        with engine.begin() as connection:
            for kiosk, event in part:
                store(connection, kiosk, event, after=versions[kiosk])
                versions[kiosk] += 1
        for model in FOLDED:
            manager.catch_up(model, batch_size=batch)
    _check(engine, "catching up")
    for model in FOLDED:
        replayer.rebuild(model)
    _check(engine, "rebuilding")
    for model in FOLDED:
        replayer.rebuild_between(model, positions=(1, 10_000))
    _check(engine, "rebuilding rows")
    assert not verify(engine, Base).findings


def test_a_handler_finds_the_fields_as_the_part_before_it_left_them(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
    ReadModelManager(engine, Base).catch_up(Journal, batch_size=1)
    with Session(engine) as session:
        assert session.get_one(Journal, "north").note == "tea:3;tea:3;"
        assert session.get_one(Journal, "north").item == "mint"
    EventReplayer(engine, Base).rebuild(Journal)
    with Session(engine) as session:
        assert session.get_one(Journal, "north").note == "tea:3;tea:3;"


def test_a_strong_write_beside_old_events_is_as_ever(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
    ReadModelManager(engine, Base).catch_up(Takings)
    with Session(engine) as session:
        session.get_one(Kiosk, "north").apply_event(ItemPaid(item="tea", price=4), occurred_at=MORNING)
        session.commit()
    ReadModelManager(engine, Base).catch_up(Takings)
    with Session(engine) as session:
        assert not differences(session, Takings, _meant(engine, Takings))


def test_a_split_is_another_declaration_of_the_models_that_take_its_parts() -> None:
    definition = Takings.__read_model_definition__
    before = definition.fingerprint

    @upcast("kiosk.Gave", from_version=1, into=(ItemTaken,))
    def give(payload: dict[str, Any]) -> list[DomainEvent]:
        return [ItemTaken(item="gift")]

    assert definition.fingerprint != before
    assert "kiosk.Gave" in definition.stored_types


def test_a_function_is_called_for_each_part_with_an_id_of_its_own(engine: Engine) -> None:
    with engine.begin() as connection:
        opened, _, _, _, sold = store(connection, "north", *HISTORY)
    Worker(engine, Base, only=["kiosk.mailer"]).run_once()
    assert [(name, version) for name, _, version in calls] == [("CashAdded", 1), ("ItemPaid", 3), ("ItemPaid", 5)]
    ids = [event_id for _, event_id, _ in calls]
    assert len(set(ids)) == 3
    assert not {opened, sold} & set(ids)


def test_a_transaction_does_not_end_between_two_parts(engine: Engine) -> None:
    """Where the time of a turn is over after each event, all parts of one are in one transaction."""
    with engine.begin() as connection:
        store(connection, "north", *[("kiosk.Sold", 2, SOLD_WITH_GIFT)] * 3)
    consumer = next(each for each in consumers_on(tables_on(Base.metadata)) if each.name == "kiosk.Restocking")
    (follower,) = followers_of(consumer, engine.dialect)
    with Session(engine) as session:
        connection = session.connection(bind_arguments=consumer.bind_arguments)
        batch = next_batch(connection, follower, lock_checkpoint(connection, follower), 100)
        done = process_batch(session, follower, batch, seconds=0)
        assert (done.count, batch.count) == (1, 3)
        session.commit()
        assert session.get_one(Restocking, "north").items == ("tea", "mint")


def test_a_process_reacts_to_each_part_once(engine: Engine) -> None:
    with engine.begin() as connection:
        (stored,) = store(connection, "north", ("kiosk.Sold", 2, SOLD_WITH_GIFT))
    worker = Worker(engine, Base, only=["kiosk.Restocking"])
    worker.run_once()
    EventReplayer(engine, Base).rewind("kiosk.Restocking", "beginning")
    worker.run_once()
    with Session(engine) as session:
        assert session.get_one(Restocking, "north").items == ("tea", "mint")
        caused = EventStore(session, Base).events.caused_by(stored).all()
        assert len(caused) == 2


class Taking:
    """What a broker does, one event at a time."""

    def __init__(self) -> None:
        self.taken: list[UUID] = []
        self.room = 100

    def __call__(self, events: Any, tenant: str | None) -> Delivery:
        taken = events[: max(0, self.room)]
        self.room -= len(taken)
        self.taken += [each.event_id for each in taken]
        delayed = None if len(taken) == len(events) else DeliveryDelayedError("kiosk.bus", "the broker is away")
        return Delivery(frozenset(each.event_id for each in taken), delayed=delayed)


def test_a_publisher_that_stops_between_two_parts_goes_on_with_the_next_one(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
    broker = Taking()
    broker.room = 2
    relay = Relay(
        name="kiosk.bus",
        tables=tables_on(Base.metadata),
        on_error="park",
        start="beginning",
        events_at_a_time=10,
        mapper=inspect(Kiosk),
        event_types=(ItemTaken, ItemPaid, CashAdded),
        deliver=broker,
    )
    (follower,) = followers_of(relay, engine.dialect)
    with Session(engine) as session:
        for _ in range(6):
            take_step(session, follower, None)
            broker.room = 100
        read = [each.event_id for each in EventStore(session, Base).events.of_type(ItemTaken, ItemPaid, CashAdded)]
    assert broker.taken == read


def test_several_kiosks_at_once(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
        store(connection, "south", *HISTORY)
    with Session(engine) as session:
        kiosks = session.scalars(select(Kiosk)).all()
        assert [each.cash for each in kiosks] == [56, 56]
        assert EventStore(session, Base).events.of_type(CashAdded).count() == 2
