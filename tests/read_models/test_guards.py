"""Rows of read models are written by nobody but events and handlers, however a session is asked to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, Table, delete, insert, inspect, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sa_eventsource import (
    ReadModel,
    ReadModelManager,
    ReadModelWriteError,
    RecordedEvent,
    handles,
    map_from_event,
)
from sa_eventsource.mapping import tables_on
from tests.committing import commit_events
from tests.shop import AnyTill, Sold

pytestmark = pytest.mark.slow_on_sqlite


class Base(DeclarativeBase):
    """Base of what is guarded."""


class Till(AnyTill, Base):
    """What the rows follow from."""

    __aggregate_type__ = "guarded.Till"


class Shared(ReadModel, Base):
    """In the shared table."""

    __projection_name__ = "guarded_shared"

    id: Mapped[str] = map_from_event(Sold, key=True, source="aggregate_id")
    what: Mapped[str] = map_from_event(Sold)


class Own(ReadModel, Base):
    """In a table of its own."""

    __tablename__ = "guarded_own"
    __projection_name__ = "guarded_own"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(Sold, key=True, source="aggregate_id")
    what: Mapped[str] = map_from_event(Sold)


class Handled(ReadModel, Base):
    """Written by a handler of each kind that there is: flush, Core and bulk."""

    __tablename__ = "guarded_handled"
    __projection_name__ = "guarded_handled"
    __consistency__ = "strong"

    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Sold)
    def _sold(cls, event: RecordedEvent[Sold], session: Session) -> None:
        if event.event.what == "flush":
            session.add(cls(id=event.aggregate_id))
        elif event.event.what == "core":
            session.execute(insert(cls.__table__).values(id=event.aggregate_id, number=0))  # type: ignore[arg-type]
        else:
            session.bulk_save_objects([cls(id=event.aggregate_id)])


class Parts(ReadModel, Base):
    """Rows that refer to each other, so that a flush comes back to them."""

    __tablename__ = "guarded_parts"
    __projection_name__ = "guarded_parts"

    id: Mapped[str] = mapped_column(primary_key=True)
    next_id: Mapped[str | None] = mapped_column(default=None)
    following: Mapped[Parts | None] = relationship(
        primaryjoin="foreign(Parts.next_id) == remote(Parts.id)", post_update=True, uselist=False
    )

    @classmethod
    @handles(Sold)
    def _sold(cls, event: RecordedEvent[Sold], session: Session) -> None:
        one, other = cls(id=f"{event.aggregate_id}-1"), cls(id=f"{event.aggregate_id}-2")
        one.following, other.following = other, one
        session.add_all([one, other])


OWN: Any = inspect(Own).local_table
PROJECTIONS = tables_on(Base.metadata).projections


def sell(engine: Engine, till_id: str, what: str = "flush") -> None:
    commit_events(engine, Till, till_id, Sold(what=what))


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    sell(engine, "t-1")
    ReadModelManager(engine, Base).catch_up()
    with Session(engine) as session:
        yield session


def _rows(session: Session, table: Table) -> list[Any]:
    return [tuple(row) for row in session.connection().execute(select(table).order_by(*table.primary_key))]


def _within(statement: Any) -> Any:
    return select(1).add_cte(statement.cte("written"))


ROW = {"id": "t-2", "what": "x", "version": 1, "created_at": None, "updated_at": None}

WRITES: dict[str, Callable[[Session], Any]] = {
    "bulk_insert_mappings": lambda session: session.bulk_insert_mappings(inspect(Own), [ROW]),
    "bulk_insert_mappings with defaults": lambda session: session.bulk_insert_mappings(inspect(Own), [ROW], return_defaults=True),
    "bulk_update_mappings": lambda session: session.bulk_update_mappings(inspect(Own), [{"id": "t-1", "what": "y"}]),
    "bulk_save_objects": lambda session: session.bulk_save_objects([Own(**ROW)]),
    "bulk_save_objects of a loaded one": lambda session: session.bulk_save_objects([_changed(session.get_one(Own, "t-1"))]),
    "bulk writes of the shared table": lambda session: session.bulk_insert_mappings(inspect(Shared), [ROW]),
    "bulk_save_objects in the shared table": lambda session: session.bulk_save_objects([_changed(session.get_one(Shared, "t-1"))]),
    "an UPDATE of the class": lambda session: session.execute(update(Own).values(what="x")),
    "an UPDATE of the class in the shared table": lambda session: session.execute(update(Shared).values(what="x")),
    "a DELETE of the class in the shared table": lambda session: session.execute(delete(Shared)),
    "an UPDATE by key": lambda session: session.execute(update(Own), [{"id": "t-1", "what": "y"}]),
    "an INSERT of many": lambda session: session.execute(insert(Own), [ROW]),
    "an UPDATE of the table": lambda session: session.execute(update(OWN).values(what="x")),
    "a DELETE from the shared table": lambda session: session.execute(delete(PROJECTIONS)),
    "an UPDATE within": lambda session: session.execute(_within(update(Own).values(what="x").returning(Own.id))),
    "a DELETE from the table within": lambda session: session.execute(_within(delete(OWN).returning(OWN.c.id))),
    "a DELETE from the shared table within": lambda session: session.execute(
        _within(delete(PROJECTIONS).returning(PROJECTIONS.c.id))
    ),
}


def _changed(row: Any) -> Any:
    row.what = "changed"
    return row


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_rows_are_not_written_by_hand(session: Session, write: Callable[[Session], Any]) -> None:
    before = [_rows(session, table) for table in (OWN, PROJECTIONS)]
    with session.no_autoflush, pytest.raises(ReadModelWriteError, match="rows of read models follow from events"):
        write(session)
    session.rollback()
    assert [_rows(session, table) for table in (OWN, PROJECTIONS)] == before


@pytest.mark.parametrize("what", ["flush", "core", "bulk"])
def test_handlers_may_write_in_any_way(session: Session, engine: Engine, what: str) -> None:
    sell(engine, "t-2", what)
    assert sorted(each.id for each in session.scalars(select(Handled))) == ["t-1", "t-2"]


def test_a_flush_of_rows_that_refer_to_each_other_works(session: Session) -> None:
    assert session.get_one(Parts, "t-1-1").next_id == "t-1-2"
    assert session.get_one(Parts, "t-1-2").next_id == "t-1-1"


def test_a_bulk_write_after_a_handlers_flush_is_refused(session: Session) -> None:
    session.add(till := Till(id="t-3"))
    till.sell("flush")
    session.flush()
    with pytest.raises(ReadModelWriteError):
        session.bulk_save_objects([Handled(id="by hand")])
    session.rollback()
    assert session.get(Handled, "by hand") is None


def test_rows_of_other_tables_are_written_as_ever(session: Session) -> None:
    session.execute(text("CREATE TABLE other (id integer)"))
    session.execute(text("INSERT INTO other VALUES (1)"))
    assert session.scalar(text("SELECT count(*) FROM other")) == 1
