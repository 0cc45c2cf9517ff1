"""What a relationship would write to aggregates, events or rows of read models while a flush is at work is refused, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, String, Table, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, foreign, mapped_column, relationship, remote

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    ImmutableEventError,
    ReadModel,
    ReadModelWriteError,
    RecordedEvent,
    applies,
    event_record,
    handles,
    map_from_event,
)


class Base(DeclarativeBase):
    """Base of everything here."""


class Hired(DomainEvent):
    """Somebody has a desk of a room."""

    __event_type__ = "row_relationships.Hired"
    room: int


class Desk(AggregateRoot, Base):
    """A desk."""

    __aggregate_type__ = "row_relationships.Desk"

    room: int = 0

    def hire(self, room: int) -> Desk:
        """Have it in a room."""
        self.apply_event(Hired(room=room))
        return self

    @applies(Hired)
    def _hired(self, event: Hired) -> None:
        self.room = event.room


class DeskRow(ReadModel, Base):
    """A desk's row."""

    __tablename__ = "row_relationships_desks"
    __projection_name__ = "row_relationships_desks"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(Hired, key=True, source="aggregate_id")
    room: Mapped[int] = map_from_event(Hired)


class DeskNumber(ReadModel, Base):
    """Written by a handler, and by its relationships."""

    __tablename__ = "row_relationships_numbers"
    __projection_name__ = "row_relationships_numbers"
    __consistency__ = "strong"

    id: Mapped[str] = mapped_column(primary_key=True)
    desk_id: Mapped[str | None]
    previous: Mapped[list[DeskNumber]] = relationship(primaryjoin=lambda: remote(foreign(DeskNumber.desk_id)) == DeskNumber.id)

    @classmethod
    @handles(Hired)
    def _hired(cls, event: RecordedEvent[Hired], session: Session) -> None:
        present = cls(id=f"{event.aggregate_id} {event.version}")
        before = session.get(cls, f"{event.aggregate_id} {event.version - 1}")
        present.previous = [] if before is None else [before]
        session.add(present)


placed = Table(
    "row_relationships_placed", Base.metadata, Column("room", ForeignKey("row_relationships_rooms.id")), Column("desk", String)
)


class Room(Base):
    """Refers to desks, their rows and their events in all ways that would write these."""

    __tablename__ = "row_relationships_rooms"

    id: Mapped[int] = mapped_column(primary_key=True)
    best_id: Mapped[str | None]
    best: Mapped[Desk | None] = relationship(
        primaryjoin=lambda: foreign(Room.best_id) == Desk.id, cascade="all, delete-orphan", single_parent=True
    )
    desks: Mapped[list[Desk]] = relationship(
        secondary=placed,
        primaryjoin=lambda: Room.id == foreign(placed.c.room),
        secondaryjoin=lambda: foreign(placed.c.desk) == Desk.id,
        cascade="all, delete-orphan",
        single_parent=True,
    )
    rows: Mapped[list[DeskRow]] = relationship(primaryjoin=lambda: Room.id == foreign(DeskRow.room))
    owned_rows: Mapped[list[DeskRow]] = relationship(
        primaryjoin=lambda: Room.id == foreign(DeskRow.room), cascade="all, delete-orphan", overlaps="rows"
    )
    late_rows: Mapped[list[DeskRow]] = relationship(
        primaryjoin=lambda: Room.id == foreign(DeskRow.room), post_update=True, overlaps="rows, owned_rows"
    )
    events: Mapped[list[Any]] = relationship(
        lambda: event_record(Base), primaryjoin=lambda: foreign(event_record(Base).version) == Room.id, overlaps="records"
    )
    owned_events: Mapped[list[Any]] = relationship(
        lambda: event_record(Base),
        primaryjoin=lambda: foreign(event_record(Base).version) == Room.id,
        cascade="all, delete-orphan",
        overlaps="events",
    )


class Label(Base):
    """Refers to a desk's row, and is in a collection of it."""

    __tablename__ = "row_relationships_labels"

    id: Mapped[int] = mapped_column(primary_key=True)
    row_id: Mapped[str | None]
    row: Mapped[DeskRow | None] = relationship(primaryjoin=lambda: foreign(Label.row_id) == DeskRow.id, backref="labels")


@pytest.fixture
def rooms(engine: Engine) -> Engine:
    """Engine on a database of each kind, with a room that has the rows of two desks, and one that has the desks."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        one, other = Desk(id="d-1").hire(1), Desk(id="d-2").hire(1)
        session.add_all([Room(id=1), Room(id=2, best=one, desks=[one, other])])
        session.commit()
    return engine


def stored(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        statements = (
            "SELECT aggregate_id, version FROM events ORDER BY position",
            "SELECT id, room FROM row_relationships_desks ORDER BY id",
            "SELECT id, best_id FROM row_relationships_rooms ORDER BY id",
            "SELECT desk FROM row_relationships_placed ORDER BY desk",
        )
        return [[tuple(row) for row in connection.execute(text(each))] for each in statements]


ORPHANS: dict[str, Callable[[Room], None]] = {
    "many to one": lambda room: setattr(room, "best", None),
    "many to many, one of them": lambda room: room.desks.remove(room.desks[0]),
    "many to many, all": lambda room: setattr(room, "desks", []),
}


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "changed"])
@pytest.mark.parametrize("orphan", ORPHANS.values(), ids=ORPHANS.keys())
def test_an_orphan_that_is_an_aggregate_is_not_deleted(
    rooms: Engine, orphan: Callable[[Room], None], *, changed: bool, heard: bool
) -> None:
    before = stored(rooms)
    with Session(rooms) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        room, desk = session.get_one(Room, 2), session.get_one(Desk, "d-1")
        assert desk in {room.best, *room.desks}
        if changed:
            desk.hire(2)
        orphan(room)
        with pytest.raises(ImmutableEventError, match="deleting <Desk 'd-1'"):
            session.flush()
        session.rollback()
        assert desk in session
        assert (room.best, len(room.desks)) == (desk, 2)
        assert stored(rooms) == before
        desk.hire(3)
        session.commit()
    assert stored(rooms)[0][-1] == ("d-1", 2)


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
def test_an_orphan_whose_parent_is_in_no_session_is_not_deleted(rooms: Engine, *, heard: bool) -> None:
    before = stored(rooms)
    with Session(rooms) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        room, desk = session.get_one(Room, 2), session.get_one(Desk, "d-1")
        assert room.best is desk
        _ = room.desks
        session.expunge(room)
        session.add(desk)  # which has gone with it
        room.best = None
        room.desks.remove(desk)
        desk.hire(2)
        with pytest.raises(ImmutableEventError, match="deleting <Desk 'd-1'"):
            session.commit()
    assert stored(rooms) == before


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
def test_aggregates_of_a_parent_that_is_deleted_are_not(rooms: Engine, *, heard: bool) -> None:
    before = stored(rooms)
    with Session(rooms) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        session.get_one(Desk, "d-1").hire(2)
        session.delete(session.get_one(Room, 2))
        with pytest.raises(ImmutableEventError, match="deleting <Desk 'd-"):
            session.commit()
    assert stored(rooms) == before


WRITES: dict[str, Callable[[Session, Room, Room, DeskRow], None]] = {
    "a foreign key of a parent that is deleted": lambda session, room, _other, _row: session.delete(room),
    "a foreign key of what is removed": lambda _session, room, _other, _row: room.rows.clear(),
    "a foreign key of what is appended": lambda _session, _room, other, row: other.rows.append(row),
    "a new row": lambda _session, _room, other, _row: other.rows.append(DeskRow(id="d-3")),
    "an orphan": lambda _session, room, _other, _row: room.owned_rows.clear(),
    "a row after the others": lambda _session, _room, other, row: other.late_rows.append(row),
}


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_relationships_do_not_write_rows_of_read_models(
    rooms: Engine, write: Callable[[Session, Room, Room, DeskRow], None], *, heard: bool
) -> None:
    before = stored(rooms)
    with Session(rooms) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        write(session, session.get_one(Room, 1), session.get_one(Room, 2), session.get_one(DeskRow, "d-1"))
        with pytest.raises(ReadModelWriteError):
            session.commit()
    assert stored(rooms) == before


@pytest.mark.parametrize("key", ["events", "owned_events"])
@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
def test_relationships_do_not_write_events(rooms: Engine, key: str, *, heard: bool) -> None:
    before = stored(rooms)
    with Session(rooms) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        room = session.get_one(Room, 1)
        assert len(getattr(room, key)) == 2
        setattr(room, key, [])
        with pytest.raises(ImmutableEventError):
            session.commit()
    assert stored(rooms) == before


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
def test_rows_that_handlers_write_do_not_open_the_way_for_others(rooms: Engine, *, heard: bool) -> None:
    with Session(rooms) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        session.get_one(Desk, "d-1").hire(1)
        session.commit()
        numbers = select(DeskNumber.id, DeskNumber.desk_id).order_by(DeskNumber.id)
        assert session.execute(numbers).all() == [("d-1 1", "d-1 2"), ("d-1 2", None), ("d-2 1", None)]
        session.get_one(Desk, "d-1").hire(1)
        other = session.get_one(Room, 2)
        other.rows.append(session.get_one(DeskRow, "d-2"))
        with pytest.raises(ReadModelWriteError, match="DeskRow"):
            session.commit()
        session.rollback()
        session.get_one(DeskNumber, "d-1 1").desk_id = None
        with pytest.raises(ReadModelWriteError, match="changing <DeskNumber"):
            session.commit()


def test_what_refers_to_a_row_of_a_read_model_is_written(rooms: Engine) -> None:
    with Session(rooms) as session:
        row = session.get_one(DeskRow, "d-1")
        session.add(Label(id=1, row=row))
        session.commit()
        assert session.scalars(select(Label.row_id)).all() == ["d-1"]
        assert [each.id for each in row.labels] == [1]  # type: ignore[attr-defined]
