"""An aggregate that cannot be read, an @applies method that raises: what it leaves of itself and of its neighbours."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy import event as sa_event
from sqlalchemy.orm import Session

from sa_eventsource import AggregateRoot, DomainEvent, EventDecodeError, applies
from tests.orders import Base, Customer, Order
from tests.session.helpers import place_order, stored_types

pytestmark = pytest.mark.slow_on_sqlite

IDS = ["a", "b", "c", "d"]


class RoomBooked(DomainEvent):
    """A room was booked by several guests."""

    __event_type__ = "failing.RoomBooked"
    guests: list[str]


class GuestJoined(DomainEvent):
    """A guest came along."""

    __event_type__ = "failing.GuestJoined"
    guest: str


class RuleError(Exception):
    """Raised by an @applies method, which should not."""


class Booking(AggregateRoot, Base):
    """A booking, with methods that do what they should not."""

    __snapshot_frequency__ = 3

    guests: list[str]
    seen: int = 0

    @applies(RoomBooked)
    def _booked(self, event: RoomBooked) -> None:
        self.guests = event.guests

    @applies(GuestJoined)
    def _joined(self, event: GuestJoined) -> None:
        self.seen += 1
        self.guests.append(event.guest)
        if event.guest == "nobody":
            raise RuleError


def booking(*guests: str) -> Booking:
    """Book a room."""
    found = Booking(id="b-1")
    found.apply_event(RoomBooked(guests=list(guests)))
    return found


def break_payload(engine: Engine, order_id: str, payload: str = '{"text": 7}', version: int = 2) -> None:
    """Make one event unreadable, behind the back of the trigger."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
        else:
            for operation in ("update", "delete"):
                connection.execute(text(f"DROP TRIGGER IF EXISTS sa_eventsource_immutable_events_{operation}"))
        cast = "::jsonb" if engine.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(
            f"UPDATE events SET event_data = '{payload}'{cast} WHERE aggregate_id = '{order_id}' AND version = {version}"
        )


@pytest.fixture
def four(database: Engine) -> Engine:
    """Four orders, of which the second cannot be read."""
    for order_id in IDS:
        place_order(database, order_id, notes=1)
    break_payload(database, "b")
    return database


@pytest.mark.parametrize("populate", [False, True])
def test_one_unreadable_aggregate_leaves_the_others_loadable(four: Engine, *, populate: bool) -> None:
    with Session(four) as session:
        statement = select(Order).order_by(Order.id).execution_options(populate_existing=populate)
        with pytest.raises(EventDecodeError):
            session.scalars(statement).all()
        for order_id in ("a", "c", "d"):
            order = session.get_one(Order, order_id)
            assert (order.version, order.notes, order.customer_id) == (2, ["note 0"], "c-1")
            order.note("after the failure")
            assert order.notes == ["note 0", "after the failure"]
        session.commit()
        with pytest.raises(EventDecodeError):
            session.get(Order, "b")
        session.rollback()
    assert stored_types(four).count("NoteAdded") == 4 + 3


def test_an_event_applied_after_a_failed_query_is_not_lost(four: Engine) -> None:
    with Session(four) as session:
        held = session.get_one(Order, "d")
        with pytest.raises(EventDecodeError):
            session.scalars(select(Order)).all()
        held.note("kept")
        fresh = session.get_one(Order, "a")
        fresh.note("kept too")
        assert held.notes[-1] == "kept"
        assert fresh.notes[-1] == "kept too"
        session.commit()
    assert stored_types(four).count("NoteAdded") == 4 + 2


def test_rows_in_batches_fail_where_the_unreadable_one_is(four: Engine) -> None:
    with Session(four) as session:
        result = session.execute(select(Order).order_by(Order.id).execution_options(yield_per=1)).scalars()
        assert next(result).id == "a"
        with pytest.raises(EventDecodeError):
            next(result)
        result.close()
        assert session.get_one(Order, "c").notes == ["note 0"]


def test_pending_changes_of_entities_survive_a_failed_read(four: Engine) -> None:
    with Session(four) as session:
        session.add(Customer(id="c-1", email="ann@example.org"))
        with pytest.raises(EventDecodeError):
            session.scalars(select(Order)).all()
        session.commit()
        assert session.get_one(Customer, "c-1").email == "ann@example.org"


def test_a_refresh_that_fails_leaves_the_aggregate_expired(database: Engine) -> None:
    place_order(database, "a", notes=1)
    with Session(database) as session:
        order = session.get_one(Order, "a")
        session.commit()
        break_payload(database, "a")
        for _ in range(2):
            with pytest.raises(EventDecodeError):
                _ = order.notes
        session.rollback()
        break_payload(database, "a", '{"text": "mended"}')
        assert order.notes == ["mended"]


def test_an_applies_method_that_raises_changes_nothing(database: Engine) -> None:
    with Session(database) as session:
        room = booking("ann")
        session.add(room)
        session.commit()
        room.apply_event(GuestJoined(guest="ben"))
        for _ in range(2):
            with pytest.raises(RuleError):
                room.apply_event(GuestJoined(guest="nobody"))
            assert (room.guests, room.seen, room.version) == (["ann", "ben"], 1, 2)
        room.apply_event(GuestJoined(guest="eve"))
        session.commit()
        assert (room.guests, room.seen, room.version) == (["ann", "ben", "eve"], 2, 3)
    assert stored_types(database) == ["failing.RoomBooked", "failing.GuestJoined", "failing.GuestJoined"]


@pytest.mark.parametrize("where", ["transient", "pending", "flushed", "detached"])
def test_so_it_is_wherever_the_aggregate_is(database: Engine, where: str) -> None:
    room = booking("ann")
    session = Session(database, expire_on_commit=False)
    if where != "transient":
        session.add(room)
    if where in ("flushed", "detached"):
        session.flush()
    if where == "detached":
        session.commit()
        session.close()
    with pytest.raises(RuleError):
        room.apply_event(GuestJoined(guest="nobody"))
    if where == "detached":
        session.add(room)
    assert (room.guests, room.seen, room.version, room.pending_events) == (
        ["ann"],
        0,
        1,
        () if where in ("flushed", "detached") else (RoomBooked(guests=["ann"]),),
    )
    session.add(room)
    session.commit()
    session.close()
    assert stored_types(database) == ["failing.RoomBooked"]


def test_a_state_lost_behind_pending_events_is_made_of_what_they_followed(database: Engine) -> None:
    with Session(database, expire_on_commit=False) as session:
        room = booking("ann")
        session.add(room)
        session.commit()
        room.apply_event(GuestJoined(guest="ben"))
        with Session(database) as other:
            other.get_one(Booking, "b-1").apply_event(GuestJoined(guest="faster"))
            other.commit()
        with pytest.raises(RuleError):
            room.apply_event(GuestJoined(guest="nobody"))
        assert (room.guests, room.version) == (["ann", "ben"], 2)


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("part", ["refresh", "expire"])
def test_pending_events_outlive_the_load_of_a_part_when_the_state_is_lost(database: Engine, part: str, *, listening: bool) -> None:
    with Session(database, autoflush=False) as session:
        if listening:
            sa_event.listen(session, "do_orm_execute", lambda _state: None)
        room = booking("ann")
        session.add(room)
        session.commit()
        _ = room.guests
        room.apply_event(GuestJoined(guest="ben"))
        with pytest.raises(RuleError):
            room.apply_event(GuestJoined(guest="nobody"))
        if part == "refresh":
            session.refresh(room, ["id"])
        else:
            session.expire(room, ["id"])
            assert room.id == "b-1"
        assert room.pending_events == (GuestJoined(guest="ben"),)
        session.commit()
        assert room.guests == ["ann", "ben"]
    assert stored_types(database) == ["failing.RoomBooked", "failing.GuestJoined"]


def test_a_list_that_a_method_takes_over_is_not_the_event_s(database: Engine) -> None:
    given = ["ann"]
    event = RoomBooked(guests=given)
    room = Booking(id="b-1")
    room.apply_event(event)
    room.apply_event(GuestJoined(guest="ben"))
    given.append("eve")
    event.guests.append("eve")
    assert room.guests == ["ann", "ben"]
    with Session(database) as session:
        session.add(room)
        session.flush()
        session.rollback()
        assert room.guests == ["ann", "ben"]
        room.apply_event(GuestJoined(guest="cleo"))
        session.add(room)
        session.commit()
        session.expunge_all()
        loaded: Any = session.get_one(Booking, "b-1")
        assert loaded.guests == ["ann", "ben", "cleo"]
