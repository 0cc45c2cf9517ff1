"""What a stored event that is read as several, or as none, is: to an aggregate, a query, a reader, an export."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from sa_eventsource import (
    AsyncEventStore,
    DeclarationError,
    DomainEvent,
    EventDecodeError,
    EventSourcedRepository,
    EventStore,
    event_context,
    upcast,
)
from sa_eventsource.events import Parts, decode
from sa_eventsource.testing import scenario
from sa_eventsource.transfer import export_events
from sa_eventsource.verification import verify
from tests.committing import commit_events
from tests.splitting.kiosk import HISTORY, SOLD, TICKED, Base, CashAdded, ItemPaid, ItemTaken, Kiosk, Opened, store


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


SEEN = ("opened", "added", "taken tea", "paid tea", "taken milk", "taken tea", "paid tea", "taken mint")


def test_one_payload_becomes_several_events() -> None:
    assert decode("kiosk.Sold", 1, '{"item": "tea", "price": 3}') == (
        ItemTaken(item="tea", till="first"),
        ItemPaid(item="tea", price=3),
    )


def test_a_dropped_event_becomes_none() -> None:
    assert decode("kiosk.Ticked", 1, "{}") == Parts()


def test_a_type_that_has_its_class_still_is_split_in_its_old_version_only() -> None:
    assert decode("kiosk.Opened", 1, '{"name": "x", "float": 1}') == (Opened(name="x"), CashAdded(amount=1))
    assert decode("kiosk.Opened", 2, '{"name": "x"}') == Opened(name="x")


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ({"item": "tea"}, "instead of a list of events of ItemTaken"),
        (None, "forgotten its return"),
        ([Opened(name="x")], "instead of a list of events of ItemTaken"),
        ([{"item": "tea"}], "instead of a list"),
        ([ItemTaken(item="a\x00b")], "cannot be stored"),
    ],
    ids=["dict", "none", "another event", "list of dicts", "what no database stores"],
)
def test_what_else_an_upcaster_returns_is_refused(returned: Any, words: str) -> None:
    @upcast("kiosk.Wrong", from_version=1, into=(ItemTaken,))
    def wrong(payload: dict[str, Any]) -> list[DomainEvent]:
        return returned  # type: ignore[no-any-return]

    with pytest.raises(EventDecodeError, match=words):
        decode("kiosk.Wrong", 1, "{}")


def test_a_list_needs_its_declaration() -> None:
    @upcast("kiosk.Undeclared", from_version=1)
    def undeclared(payload: dict[str, Any]) -> dict[str, Any]:
        return [ItemTaken(item="tea")]  # type: ignore[return-value]

    class Undeclared(DomainEvent):
        __event_type__ = "kiosk.Undeclared"
        __event_version__ = 2

    with pytest.raises(EventDecodeError, match="a dict"):
        decode("kiosk.Undeclared", 1, "{}")


@pytest.mark.parametrize("into", [("ItemTaken",), ItemTaken, (int,)], ids=["name", "class", "no event"])
def test_what_is_no_tuple_of_events_is_refused(into: Any) -> None:
    with pytest.raises(DeclarationError, match="into"):
        upcast("kiosk.Never", from_version=1, into=into)


def test_a_later_version_than_those_that_are_split_is_unknown() -> None:
    with pytest.raises(LookupError):
        decode("kiosk.Sold", 3, "{}")


def test_an_aggregate_takes_all_parts_at_the_version_of_the_stored_event(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
    with Session(engine) as session:
        kiosk = session.get_one(Kiosk, "north")
        assert (kiosk.version, kiosk.seen, kiosk.cash) == (5, SEEN, 56)
        kiosk.apply_event(ItemPaid(item="milk", price=1))
        session.commit()
        assert kiosk.version == 6


def test_time_travel_sees_all_parts_of_an_event_or_none(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
    with Session(engine) as session:
        repository = EventSourcedRepository(session, Kiosk)
        states = [repository.load_at_version("north", version).seen for version in range(1, 6)]
    assert states == [SEEN[:2], SEEN[:2], SEEN[:4], SEEN[:5], SEEN]


def test_an_aggregate_of_dropped_events_is_there_in_its_first_state(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "silent", ("kiosk.Ticked", 1, TICKED))
    with Session(engine) as session:
        kiosk = session.get_one(Kiosk, "silent")
        assert (kiosk.version, kiosk.seen) == (1, ())


def test_a_snapshot_has_what_the_parts_came_to(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
    commit_events(engine, Kiosk, "north", ItemPaid(item="milk", price=1))
    with Session(engine) as session:
        assert session.scalar(text("SELECT max(version) FROM snapshots")) == 6
        assert session.get_one(Kiosk, "north").seen == (*SEEN, "paid milk")
    assert not verify(engine, Base).findings


def test_an_upcaster_that_gives_an_event_is_part_of_what_a_snapshot_rests_on() -> None:
    before = Kiosk.__aggregate_definition__.fingerprint

    @upcast("kiosk.Given", from_version=1, into=(ItemTaken,))
    def give(payload: dict[str, Any]) -> list[DomainEvent]:
        return [ItemTaken(item="gift")]

    assert before is not None
    assert Kiosk.__aggregate_definition__.fingerprint != before


def test_parts_have_ids_of_their_own_and_name_the_stored_event(engine: Engine) -> None:
    with engine.begin() as connection:
        (stored,) = store(connection, "north", ("kiosk.Sold", 1, SOLD))
    with Session(engine) as session:
        taken, paid = EventStore(session).events.of(Kiosk, "north")
        again = EventStore(session).events.of(Kiosk, "north").all()
    assert (taken.event_id, taken.part, taken.part_of, taken.stored_id) == (stored, 0, None, stored)
    assert (paid.part, paid.part_of, paid.stored_id) == (1, stored, stored)
    assert paid.event_id not in {stored, uuid4()}
    assert again == [taken, paid]
    assert {(each.version, each.position, each.event_type, each.event_version) for each in (taken, paid)} == {
        (1, taken.position, "kiosk.Sold", 1)
    }
    with event_context(caused_by=paid) as context:
        assert (context.causation_id, context.correlation_id) == (stored, stored)


def test_queries_count_and_limit_what_is_read(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
        store(connection, "south", ("kiosk.Ticked", 1, TICKED), ("kiosk.Ticked", 1, TICKED))
    with Session(engine) as session:
        events = EventStore(session, Base).events
        names = [type(each.event).__name__ for each in events]
        assert names == ["Opened", "CashAdded", "ItemTaken", "ItemPaid", "ItemTaken", "ItemTaken", "ItemPaid", "ItemTaken"]
        assert [type(each.event).__name__ for each in events.backward()] == names[::-1]
        taken = events.of_type(ItemTaken)
        assert [each.event.item for each in taken] == ["tea", "milk", "tea", "mint"]
        assert [each.event.item for each in taken.backward().limit(2)] == ["mint", "tea"]
        assert [each.event.item for each in taken.limit(3).stream(1)] == ["tea", "milk", "tea"]
        assert [each.event.item for each in taken.backward().limit(1).stream(2)] == ["mint"]
        assert (events.count(), taken.count(), taken.limit(3).count(), events.of_type(Opened).count()) == (8, 4, 3, 1)
        assert events.of(Kiosk, "south").first() is None
        assert events.of(Kiosk, "south").count() == 0
        first = events.of_type(ItemPaid).first()
        assert first is not None
        assert first.event == ItemPaid(item="tea", price=3)


async def test_the_same_of_an_async_session(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(lambda plain: store(plain, "north", *HISTORY))
    async with AsyncSession(async_engine) as session:
        taken = AsyncEventStore(session, Base).events.of_type(ItemTaken)
        assert [each.event.item for each in await taken.all()] == ["tea", "milk", "tea", "mint"]
        assert [each.event.item async for each in taken.limit(3).stream(1)] == ["tea", "milk", "tea"]
        assert await taken.count() == 4
        assert (await taken.limit(1).all())[0].event.item == "tea"


def test_who_follows_by_himself_gets_the_parts_he_asks_for(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "silent", *[("kiosk.Ticked", 1, TICKED)] * 5)
        store(connection, "north", *HISTORY)
    got: list[str] = []
    with Session(engine) as session:
        while events := EventStore(session, Base).follow("kiosk.reader", ItemPaid, CashAdded, batch=2):
            got += [type(each.event).__name__ for each in events]
            session.commit()
        session.commit()
        assert got == ["CashAdded", "ItemPaid", "ItemPaid"]
        everything = EventStore(session, Base).follow("kiosk.all", batch=2)
        assert [type(each.event).__name__ for each in everything] == ["Opened", "CashAdded"]


def test_an_export_has_the_stored_events(engine: Engine) -> None:
    with engine.begin() as connection:
        store(connection, "north", *HISTORY)
        lines = "".join(export_events(connection, Base.metadata.tables["events"]))
    assert lines.count("kiosk.Sold") == 2
    assert "kiosk.ItemPaid" not in lines


def test_a_scenario_is_given_what_is_read_as_several() -> None:
    given = scenario(Kiosk, id="north")
    for event_type, version, payload in HISTORY:
        given = given.given_stored(event_type, version, payload)
    assert (given.aggregate.seen, given.aggregate.version) == (SEEN, 5)
