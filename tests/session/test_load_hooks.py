"""What listens to loading finds an aggregate as it finds any entity: complete; and what it applies is kept."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, MetaData, event, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    contains_eager,
    foreign,
    joinedload,
    load_only,
    mapped_column,
    reconstructor,
    relationship,
    selectinload,
)

from sa_eventsource import AggregateRoot, DomainEvent, EventDecodeError, applies
from tests.session.helpers import kinds_of_statements, selects
from tests.statement_log import record_statements

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READ_AT_ONCE = 500
"""Aggregates whose state one statement reads."""


class ShelfBase(DeclarativeBase):
    """Base of the classes of these tests."""


class BookAdded(DomainEvent):
    """A book was put on the shelf."""

    __event_type__ = "hooks.BookAdded"
    title: str


class Shelf(AggregateRoot, ShelfBase):
    """A shelf, which counts its books when it is loaded."""

    books: tuple[str, ...] = ()
    counted = -1
    labels: Mapped[list[Label]] = relationship(
        primaryjoin=lambda: foreign(Label.shelf_id) == Shelf.id, order_by=lambda: Label.id, viewonly=True
    )

    def add(self, title: str) -> None:
        """Put a book on it."""
        self.apply_event(BookAdded(title=title))

    @applies(BookAdded)
    def _added(self, event: BookAdded) -> None:
        self.books = (*self.books, event.title)

    @reconstructor
    def _count(self) -> None:
        self.counted = len(self.books)


class Label(ShelfBase):
    """A row that points at a shelf."""

    __tablename__ = "labels"

    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[str | None]
    shelf: Mapped[Shelf | None] = relationship(primaryjoin=lambda: foreign(Label.shelf_id) == Shelf.id, viewonly=True)


@pytest.fixture
def tables() -> MetaData:
    return ShelfBase.metadata


@pytest.fixture
def shelves(engine: Engine) -> Engine:
    """Engine on a database of each kind, with ten shelves; s-0 has one book, s-9 has ten."""
    with Session(engine) as session:
        for number in range(10):
            shelf = Shelf(id=f"s-{number}")
            for each in range(number + 1):
                shelf.add(f"book {each}")
            session.add(shelf)
        session.add_all([Label(id=1, shelf_id="s-1"), Label(id=2, shelf_id="s-2"), Label(id=3), Label(id=4, shelf_id="s-2")])
        session.commit()
    return engine


def add_elsewhere(engine: Engine, shelf_id: str) -> None:
    """Commit a further event in a session of its own."""
    with Session(engine) as session:
        session.get_one(Shelf, shelf_id).add("from elsewhere")
        session.commit()


@contextmanager
def listening(target: Any, name: str, act: Callable[[Shelf], None]) -> Iterator[None]:
    """Have *act* called with each shelf of which an event of loading is told."""

    def listener(*arguments: Any) -> None:
        for shelf in (each for each in arguments if isinstance(each, Shelf)):
            act(shelf)

    event.listen(target, name, listener)
    try:
        yield
    finally:
        event.remove(target, name, listener)


QUERIES: dict[str, Callable[[Session], Any]] = {
    "all": lambda session: session.scalars(select(Shelf)).all(),
    "in batches": lambda session: list(session.scalars(select(Shelf).execution_options(yield_per=3))),
    "in partitions": lambda session: list(session.scalars(select(Shelf)).partitions(4)),
    "one by one": lambda session: list(iter(session.execute(select(Shelf)).fetchone, None)),
    "aliased": lambda session: session.scalars(select(aliased(Shelf))).all(),
    "of a subquery": lambda session: session.scalars(select(aliased(Shelf, select(Shelf).subquery()))).all(),
    "beside columns": lambda session: session.execute(select(Shelf.version, Shelf)).all(),
    "of a text": lambda session: session.scalars(select(Shelf).from_statement(select(Shelf.id, Shelf.version))).all(),
    "of ids alone": lambda session: session.scalars(select(Shelf).options(load_only(Shelf.id))).all(),
    "legacy": lambda session: session.query(Shelf).all(),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_a_reconstructor_finds_the_state(shelves: Engine, query: Callable[[Session], Any]) -> None:
    with Session(shelves) as session, kinds_of_statements(shelves) as kinds:
        kept = query(session)
        assert {each.id: each.counted for each in session.identity_map.values() if isinstance(each, Shelf)} == {
            f"s-{number}": number + 1 for number in range(10)
        }
        assert session.get_one(Shelf, "s-3").books[-1] == "book 3"
        assert len(kept) in (10, 3)
    assert selects(kinds) == 1 + (4 if query is QUERIES["in batches"] else 1)


@pytest.mark.parametrize("load", [joinedload, selectinload])
def test_so_it_does_where_a_relationship_is_loaded(shelves: Engine, load: Any) -> None:
    with Session(shelves) as session, kinds_of_statements(shelves) as kinds:
        labels = session.scalars(select(Label).options(load(Label.shelf)).order_by(Label.id)).all()
        assert [each.shelf and each.shelf.counted for each in labels] == [2, 3, None, 3]
    assert selects(kinds) == (2 if load is joinedload else 3)


def test_so_it_does_in_an_outer_join(shelves: Engine) -> None:
    statement = select(Label, Shelf).join(Shelf, Label.shelf_id == Shelf.id, isouter=True).order_by(Label.id)
    with Session(shelves) as session:
        rows = session.execute(statement.options(contains_eager(Label.shelf))).all()
        assert [shelf and shelf.counted for _, shelf in rows] == [2, 3, None, 3]


async def test_so_it_does_in_an_asynchronous_session(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(ShelfBase.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        for number in range(3):
            shelf = Shelf(id=f"s-{number}")
            shelf.add("a book")
            session.add(shelf)
        await session.commit()
        session.expunge_all()
        assert [each.counted for each in await session.scalars(select(Shelf))] == [1, 1, 1]
        session.expunge_all()
        assert [each.counted async for each in await session.stream_scalars(select(Shelf))] == [1, 1, 1]
        session.expunge_all()
        assert (await session.get_one(Shelf, "s-1")).counted == 1


def test_many_are_read_some_hundred_at_once(sqlite_engine: Engine) -> None:
    with Session(sqlite_engine) as session:
        for number in range(2 * READ_AT_ONCE + 1):
            shelf = Shelf(id=f"s-{number:04}")
            shelf.add("a book")
            session.add(shelf)
        session.commit()
    with Session(sqlite_engine) as session:
        with record_statements(sqlite_engine) as log:
            found = session.scalars(select(Shelf).order_by(Shelf.id)).all()
        assert len([each for each in log if "SELECT" in each]) == 1 + 3
        assert {each.counted for each in found} == {1}


def test_what_the_session_has_is_not_read_again(shelves: Engine) -> None:
    with Session(shelves) as session:
        held = [session.get_one(Shelf, f"s-{number}") for number in range(8)]
        session.expire(held[2])
        with record_statements(shelves) as log:
            session.scalars(select(Shelf)).all()
        events_read = [each for each in log if "event_data" in each]
        assert len(events_read) == 1
        assert held[2].books == ("book 0", "book 1", "book 2")


@pytest.mark.parametrize("how", ["load", "loaded_as_persistent"])
@pytest.mark.parametrize("by", ["get", "select", "relationship", "batches"])
def test_an_event_applied_when_an_aggregate_is_loaded_is_written(shelves: Engine, how: str, by: str) -> None:
    loads: dict[str, Callable[[], Any]] = {
        "get": lambda: session.get_one(Shelf, "s-2"),
        "select": lambda: session.scalars(select(Shelf).where(Shelf.id == "s-2")).one(),
        "relationship": lambda: session.get_one(Label, 2).shelf,
        "batches": lambda: session.scalars(select(Shelf).where(Shelf.id == "s-2").execution_options(yield_per=1)).one(),
    }
    with Session(shelves) as session, listening(session if how == "loaded_as_persistent" else Shelf, how, lambda s: s.add("seen")):
        shelf = loads[by]()
        assert (shelf.version, shelf.books[-1]) == (4, "seen")
        assert list(session.dirty) == [shelf]
        savepoint = session.begin_nested()  # which flushes first
        assert shelf.pending_events == ()
        savepoint.rollback()
        session.commit()
    with Session(shelves) as session:
        assert session.get_one(Shelf, "s-2").books[2:] == ("book 2", "seen")


@pytest.mark.parametrize("how", ["expired", "refresh", "populate_existing", "select"])
def test_a_refresh_listener_finds_the_new_state_and_may_apply_to_it(shelves: Engine, how: str) -> None:
    seen: list[tuple[int, int]] = []

    def look(shelf: Shelf) -> None:
        seen.append((len(shelf.books), shelf.version))
        if len(seen) == 1:
            shelf.add("refreshed")

    with Session(shelves, expire_on_commit=False) as session:
        shelf = session.get_one(Shelf, "s-2")
        session.commit()
        add_elsewhere(shelves, "s-2")
        with listening(Shelf, "refresh", look):
            if how in ("expired", "select"):
                session.expire(shelf)
            if how == "refresh":
                session.refresh(shelf)
            if how in ("populate_existing", "select"):
                statement = select(Shelf).where(Shelf.id == "s-2")
                session.scalars(statement.execution_options(populate_existing=how == "populate_existing")).all()
            assert shelf.books[-2:] == ("from elsewhere", "refreshed")
            assert list(session.dirty) == [shelf]
            session.flush()
            assert shelf.pending_events == ()
            session.commit()
    assert seen == [(4, 4)]
    with Session(shelves) as session:
        assert session.get_one(Shelf, "s-2").version == 5


def test_an_aggregate_that_a_listener_loads_and_changes_is_as_it_left_it(shelves: Engine) -> None:
    def touch_the_last(shelf: Shelf) -> None:
        if shelf.id == "s-0":
            last = session.get_one(Shelf, "s-9")
            last.add("first touched")
            kept.append(last)

    kept: list[Shelf] = []
    with Session(shelves) as session, listening(Shelf, "load", touch_the_last):
        found = session.scalars(select(Shelf).order_by(Shelf.id)).all()
        assert found[-1] is kept[0]
        assert (found[-1].version, found[-1].books[-1]) == (11, "first touched")
        session.commit()
    with Session(shelves) as session:
        assert session.get_one(Shelf, "s-9").version == 11


def test_one_that_cannot_be_read_is_not_told_as_loaded(shelves: Engine) -> None:
    with shelves.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
        else:
            for name in connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
                connection.execute(text(f"DROP TRIGGER {name}"))
        connection.execute(text("UPDATE events SET event_data = '{}' WHERE aggregate_id = 's-3'"))
    told: list[str] = []
    with Session(shelves) as session, listening(Shelf, "load", lambda shelf: told.append(shelf.id)):
        with pytest.raises(EventDecodeError):
            session.scalars(select(Shelf).order_by(Shelf.id)).all()
        assert told == ["s-0", "s-1", "s-2"]
        assert session.get_one(Shelf, "s-4").counted == 5


@pytest.mark.parametrize("how", ["get", "select", "relationship"])
def test_loading_tells_of_no_expiry(shelves: Engine, how: str) -> None:
    told: list[tuple[str, Any]] = []
    loads: dict[str, Callable[[Session], Any]] = {
        "get": lambda session: session.get_one(Shelf, "s-2"),
        "select": lambda session: session.scalars(select(Shelf).where(Shelf.id == "s-2")).one(),
        "relationship": lambda session: session.get_one(Label, 2).shelf,
    }

    def listener(target: Any, names: Any) -> None:
        told.append((type(target).__name__, names))

    for each in (Shelf, Label):
        event.listen(each, "expire", listener)
    try:
        with Session(shelves) as session:
            shelf = loads[how](session)
            assert told == []
            assert not inspect(shelf).expired_attributes
            assert [label.id for label in shelf.labels] == [2, 4]
            session.get_one(Label, 1)
            session.expire(shelf)
            assert told == [("Shelf", None)]
    finally:
        for each in (Shelf, Label):
            event.remove(each, "expire", listener)
