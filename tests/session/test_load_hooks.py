"""What listens to loading finds an aggregate as it finds any entity: complete; and what it applies is kept."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, MetaData, event, inspect, select
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

from sa_eventsource import EventDecodeError
from tests.committing import changing_events, commit_events
from tests.session.helpers import kinds_of_statements, selects
from tests.shop import AnyTill, Sold
from tests.statement_log import record_statements

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READ_AT_ONCE = 500
"""Aggregates whose state one statement reads."""


class Base(DeclarativeBase):
    """Base of the classes of these tests."""


class Till(AnyTill, Base):
    """A till, which counts what was sold when it is loaded."""

    counted = -1
    shifts: Mapped[list[Shift]] = relationship(
        primaryjoin=lambda: foreign(Shift.till_id) == Till.id, order_by=lambda: Shift.id, viewonly=True
    )

    @reconstructor
    def _count(self) -> None:
        self.counted = len(self.sold)


class Shift(Base):
    """A row that points at a till."""

    __tablename__ = "shifts"

    id: Mapped[int] = mapped_column(primary_key=True)
    till_id: Mapped[str | None]
    till: Mapped[Till | None] = relationship(primaryjoin=lambda: foreign(Shift.till_id) == Till.id, viewonly=True)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def tills(engine: Engine) -> Engine:
    """Engine on a database of each kind, with ten tills: t-0 has sold one pen, t-9 has sold ten."""
    with Session(engine) as session:
        for number in range(10):
            till = Till(id=f"t-{number}")
            till.sell(*(f"pen {each}" for each in range(number + 1)))
            session.add(till)
        session.add_all([Shift(id=1, till_id="t-1"), Shift(id=2, till_id="t-2"), Shift(id=3), Shift(id=4, till_id="t-2")])
        session.commit()
    return engine


@contextmanager
def listening(target: Any, name: str, act: Callable[[Till], None]) -> Iterator[None]:
    """Have *act* called with each till of which an event of loading is told."""

    def listener(*arguments: Any) -> None:
        for till in (each for each in arguments if isinstance(each, Till)):
            act(till)

    event.listen(target, name, listener)
    try:
        yield
    finally:
        event.remove(target, name, listener)


QUERIES: dict[str, Callable[[Session], Any]] = {
    "all": lambda session: session.scalars(select(Till)).all(),
    "in batches": lambda session: list(session.scalars(select(Till).execution_options(yield_per=3))),
    "in partitions": lambda session: list(session.scalars(select(Till)).partitions(4)),
    "one by one": lambda session: list(iter(session.execute(select(Till)).fetchone, None)),
    "aliased": lambda session: session.scalars(select(aliased(Till))).all(),
    "of a subquery": lambda session: session.scalars(select(aliased(Till, select(Till).subquery()))).all(),
    "beside columns": lambda session: session.execute(select(Till.version, Till)).all(),
    "of a text": lambda session: session.scalars(select(Till).from_statement(select(Till.id, Till.version))).all(),
    "of ids alone": lambda session: session.scalars(select(Till).options(load_only(Till.id))).all(),
    "legacy": lambda session: session.query(Till).all(),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_a_reconstructor_finds_the_state(tills: Engine, query: Callable[[Session], Any]) -> None:
    with Session(tills) as session, kinds_of_statements(tills) as kinds:
        kept = query(session)
        assert {each.id: each.counted for each in session.identity_map.values() if isinstance(each, Till)} == {
            f"t-{number}": number + 1 for number in range(10)
        }
        assert session.get_one(Till, "t-3").sold[-1] == "pen 3"
        assert len(kept) in (10, 3)
    assert selects(kinds) == 1 + (4 if query is QUERIES["in batches"] else 1)


@pytest.mark.parametrize("load", [joinedload, selectinload])
def test_so_it_does_where_a_relationship_is_loaded(tills: Engine, load: Any) -> None:
    with Session(tills) as session, kinds_of_statements(tills) as kinds:
        shifts = session.scalars(select(Shift).options(load(Shift.till)).order_by(Shift.id)).all()
        assert [each.till and each.till.counted for each in shifts] == [2, 3, None, 3]
    assert selects(kinds) == (2 if load is joinedload else 3)


def test_so_it_does_in_an_outer_join(tills: Engine) -> None:
    statement = select(Shift, Till).join(Till, Shift.till_id == Till.id, isouter=True).order_by(Shift.id)
    with Session(tills) as session:
        rows = session.execute(statement.options(contains_eager(Shift.till))).all()
        assert [till and till.counted for _, till in rows] == [2, 3, None, 3]


async def test_so_it_does_in_an_asynchronous_session(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        for number in range(3):
            till = Till(id=f"t-{number}")
            till.sell("pen")
            session.add(till)
        await session.commit()
        session.expunge_all()
        assert [each.counted for each in await session.scalars(select(Till))] == [1, 1, 1]
        session.expunge_all()
        assert [each.counted async for each in await session.stream_scalars(select(Till))] == [1, 1, 1]
        session.expunge_all()
        assert (await session.get_one(Till, "t-1")).counted == 1


def test_many_are_read_some_hundred_at_once(sqlite_engine: Engine) -> None:
    with Session(sqlite_engine) as session:
        for number in range(2 * READ_AT_ONCE + 1):
            till = Till(id=f"t-{number:04}")
            till.sell("pen")
            session.add(till)
        session.commit()
    with Session(sqlite_engine) as session:
        with record_statements(sqlite_engine) as log:
            found = session.scalars(select(Till).order_by(Till.id)).all()
        assert len([each for each in log if "SELECT" in each]) == 1 + 3
        assert {each.counted for each in found} == {1}


def test_what_the_session_has_is_not_read_again(tills: Engine) -> None:
    with Session(tills) as session:
        held = [session.get_one(Till, f"t-{number}") for number in range(8)]
        session.expire(held[2])
        with record_statements(tills) as log:
            session.scalars(select(Till)).all()
        events_read = [each for each in log if "event_data" in each]
        assert len(events_read) == 1
        assert held[2].sold == ("pen 0", "pen 1", "pen 2")


@pytest.mark.parametrize("how", ["load", "loaded_as_persistent"])
@pytest.mark.parametrize("by", ["get", "select", "relationship", "batches"])
def test_an_event_applied_when_an_aggregate_is_loaded_is_written(tills: Engine, how: str, by: str) -> None:
    loads: dict[str, Callable[[], Any]] = {
        "get": lambda: session.get_one(Till, "t-2"),
        "select": lambda: session.scalars(select(Till).where(Till.id == "t-2")).one(),
        "relationship": lambda: session.get_one(Shift, 2).till,
        "batches": lambda: session.scalars(select(Till).where(Till.id == "t-2").execution_options(yield_per=1)).one(),
    }
    with Session(tills) as session, listening(session if how == "loaded_as_persistent" else Till, how, lambda s: s.sell("seen")):
        till = loads[by]()
        assert (till.version, till.sold[-1]) == (4, "seen")
        assert list(session.dirty) == [till]
        savepoint = session.begin_nested()  # which flushes first
        assert till.pending_events == ()
        savepoint.rollback()
        session.commit()
    with Session(tills) as session:
        assert session.get_one(Till, "t-2").sold[2:] == ("pen 2", "seen")


@pytest.mark.parametrize("how", ["expired", "refresh", "populate_existing", "select"])
def test_a_refresh_listener_finds_the_new_state_and_may_apply_to_it(tills: Engine, how: str) -> None:
    seen: list[tuple[int, int]] = []

    def look(till: Till) -> None:
        seen.append((len(till.sold), till.version))
        if len(seen) == 1:
            till.sell("refreshed")

    with Session(tills, expire_on_commit=False) as session:
        till = session.get_one(Till, "t-2")
        session.commit()
        commit_events(tills, Till, "t-2", Sold(what="from elsewhere"))
        with listening(Till, "refresh", look):
            if how in ("expired", "select"):
                session.expire(till)
            if how == "refresh":
                session.refresh(till)
            if how in ("populate_existing", "select"):
                statement = select(Till).where(Till.id == "t-2")
                session.scalars(statement.execution_options(populate_existing=how == "populate_existing")).all()
            assert till.sold[-2:] == ("from elsewhere", "refreshed")
            assert list(session.dirty) == [till]
            session.flush()
            assert till.pending_events == ()
            session.commit()
    assert seen == [(4, 4)]
    with Session(tills) as session:
        assert session.get_one(Till, "t-2").version == 5


def test_an_aggregate_that_a_listener_loads_and_changes_is_as_it_left_it(tills: Engine) -> None:
    def touch_the_last(till: Till) -> None:
        if till.id == "t-0":
            last = session.get_one(Till, "t-9")
            last.sell("first touched")
            kept.append(last)

    kept: list[Till] = []
    with Session(tills) as session, listening(Till, "load", touch_the_last):
        found = session.scalars(select(Till).order_by(Till.id)).all()
        assert found[-1] is kept[0]
        assert (found[-1].version, found[-1].sold[-1]) == (11, "first touched")
        session.commit()
    with Session(tills) as session:
        assert session.get_one(Till, "t-9").version == 11


def test_one_that_cannot_be_read_is_not_told_as_loaded(tills: Engine) -> None:
    with changing_events(tills, Base) as connection:
        connection.exec_driver_sql("""UPDATE events SET event_data = '{"what": null}' WHERE aggregate_id = 't-3'""")
    told: list[str] = []
    with Session(tills) as session, listening(Till, "load", lambda till: told.append(till.id)):
        with pytest.raises(EventDecodeError):
            session.scalars(select(Till).order_by(Till.id)).all()
        assert told == ["t-0", "t-1", "t-2"]
        assert session.get_one(Till, "t-4").counted == 5


@pytest.mark.parametrize("how", ["get", "select", "relationship"])
def test_loading_tells_of_no_expiry(tills: Engine, how: str) -> None:
    told: list[tuple[str, Any]] = []
    loads: dict[str, Callable[[Session], Any]] = {
        "get": lambda session: session.get_one(Till, "t-2"),
        "select": lambda session: session.scalars(select(Till).where(Till.id == "t-2")).one(),
        "relationship": lambda session: session.get_one(Shift, 2).till,
    }

    def listener(target: Any, names: Any) -> None:
        told.append((type(target).__name__, names))

    for each in (Till, Shift):
        event.listen(each, "expire", listener)
    try:
        with Session(tills) as session:
            till = loads[how](session)
            assert told == []
            assert not inspect(till).expired_attributes
            assert [shift.id for shift in till.shifts] == [2, 4]
            session.get_one(Shift, 1)
            session.expire(till)
            assert told == [("Till", None)]
    finally:
        for each in (Till, Shift):
            event.remove(each, "expire", listener)
