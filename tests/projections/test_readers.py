"""Readers: code that asks for the next events by itself gets each once, with its own transaction, whatever commits late."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    AsyncEventStore,
    AutocommitError,
    DeclarationError,
    DomainEvent,
    EventDecodeError,
    EventReplayer,
    EventStore,
    MovedLogError,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    Worker,
    map_from_event,
    subscribe,
    verify,
)
from sa_eventsource.mapping import tables_on
from tests.committing import commit_events
from tests.databases import WAITING
from tests.waiting import wait_until


class Base(DeclarativeBase):
    """Base of a warehouse that loads events by itself."""


class Loaded(DomainEvent):
    """Something was put on a lorry."""

    __event_type__ = "readers.Loaded"
    crate: int


class LoadedCarefully(Loaded):
    """It was, and it is fragile."""

    __event_type__ = "readers.LoadedCarefully"


class Driven(DomainEvent):
    """The lorry went somewhere."""

    __event_type__ = "readers.Driven"
    km: int


class Lorry(AggregateRoot[str], Base):
    """What is loaded and driven."""

    __aggregate_type__ = "readers.Lorry"
    __ignored_events__ = (Loaded, LoadedCarefully, Driven)


class Crates(ReadModel, Base):
    """A model, whose name no reader can have."""

    __projection_name__ = "readers.crates"

    id: Mapped[str]
    crate: Mapped[int] = map_from_event(Loaded)


class Shelf(Base):
    """What the reader writes with its progress."""

    __tablename__ = "readers_shelf"

    crate: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


@subscribe("readers.horn", Driven, base=Base)
def sound(driven: RecordedEvent[Driven], session: Session) -> None:
    """Do nothing, once an event."""


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def lorries(engine: Engine) -> Engine:
    return engine


@pytest.fixture
def postgres_lorries(postgres_engine: Engine) -> Engine:
    return postgres_engine


def load(engine: Engine, *events: DomainEvent | int, lorry_id: str = "a") -> None:
    """Commit events of one lorry, each in a transaction of its own; a number stands for a crate."""
    for each in events:
        commit_events(engine, Lorry, lorry_id, Loaded(crate=each) if isinstance(each, int) else each)


def crates(events: Sequence[RecordedEvent[Any]]) -> list[int]:
    return [each.event.crate for each in events]


def follow(engine: Engine, **options: Any) -> list[int]:
    """Ask once, and commit."""
    with Session(engine) as session:
        found = crates(EventStore(session, Base).follow("dock", **options))
        session.commit()
    return found


def test_each_event_comes_once_and_in_batches(lorries: Engine) -> None:
    load(lorries, 1, 2, 3, 4, 5)
    assert [follow(lorries, batch=2) for _ in range(4)] == [[1, 2], [3, 4], [5], []]
    load(lorries, 6)
    assert follow(lorries, batch=2) == [6]


def test_nothing_means_that_nothing_is_new_though_a_batch_was_just_full(lorries: Engine) -> None:
    load(lorries, 1, 2)
    assert follow(lorries, batch=2) == [1, 2]
    load(lorries, 3)
    assert follow(lorries, batch=2) == [3]


def test_batches_of_one_transaction_follow_one_another(lorries: Engine) -> None:
    load(lorries, 1, 2, 3)
    with Session(lorries) as session:
        store = EventStore(session, Base)
        assert [crates(store.follow("dock", batch=2)) for _ in range(3)] == [[1, 2], [3], []]
        session.rollback()
        assert crates(store.follow("dock")) == [1, 2, 3]


def test_the_commit_keeps_the_progress_with_what_was_written_and_a_rollback_neither(lorries: Engine) -> None:
    load(lorries, 1, 2)
    with Session(lorries) as session:
        for ending in (session.rollback, session.commit, session.commit):
            session.add_all(Shelf(crate=each.event.crate) for each in EventStore(session, Base).follow("dock", Loaded))
            ending()
    with Session(lorries) as session:
        assert session.scalars(select(Shelf.crate).order_by(Shelf.crate)).all() == [1, 2]


def test_a_savepoint_that_is_rolled_back_gives_the_events_again(postgres_lorries: Engine) -> None:
    load(postgres_lorries, 1)
    with Session(postgres_lorries) as session:
        store = EventStore(session, Base)
        with session.begin_nested() as savepoint:
            assert crates(store.follow("dock")) == [1]
            savepoint.rollback()
        assert crates(store.follow("dock")) == [1]


def test_what_commits_late_comes_late_and_is_not_passed_over(postgres_lorries: Engine) -> None:
    with Session(postgres_lorries) as late:
        late.add(lorry := Lorry(id="late"))
        lorry.apply_event(Loaded(crate=1))
        late.flush()
        load(postgres_lorries, 2)
        assert follow(postgres_lorries) == [2]
        late.commit()
    with Session(postgres_lorries) as session:
        paged = EventStore(session, Base).events.after_position(2).all()
    assert (paged, follow(postgres_lorries)) == ([], [1])


def test_who_asks_under_the_same_name_waits_and_gets_what_follows(postgres_lorries: Engine) -> None:
    load(postgres_lorries, 1, 2, 3)
    others: list[int] = []
    with Session(postgres_lorries) as session:
        assert crates(EventStore(session, Base).follow("dock", batch=2)) == [1, 2]
        thread = threading.Thread(target=lambda: others.extend(follow(postgres_lorries)))
        thread.start()
        with postgres_lorries.connect().execution_options(isolation_level="AUTOCOMMIT") as watch:
            wait_until(lambda: watch.scalar(text(WAITING)))
        assert others == []
        assert crates(EventStore(session, Base).follow("another name")) == [1, 2, 3], "which waits for nobody"
        session.commit()
    thread.join()
    assert others == [3]


def test_two_who_begin_under_one_name_at_the_same_time_share_the_log(postgres_lorries: Engine) -> None:
    load(postgres_lorries, *range(40))
    found: list[list[int]] = []
    gate = threading.Barrier(4)

    def run() -> None:
        gate.wait()
        while batch := follow(postgres_lorries, batch=3):
            found.append(batch)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(crate for batch in found for crate in batch) == list(range(40))


def test_under_repeatable_read_one_of_two_is_refused_and_nothing_is_lost(postgres_lorries: Engine) -> None:
    load(postgres_lorries, 1)
    strict = postgres_lorries.execution_options(isolation_level="REPEATABLE READ")
    with Session(strict) as session:
        session.scalar(select(func.count()).select_from(tables_on(Base.metadata).events))
        assert follow(postgres_lorries) == [1]
        load(postgres_lorries, 2)
        with pytest.raises(OperationalError, match="could not serialize"):
            EventStore(session, Base).follow("dock")
        session.rollback()
        assert crates(EventStore(session, Base).follow("dock")) == [2]


def test_what_the_transaction_has_written_itself_comes_to_a_later_one(postgres_lorries: Engine) -> None:
    with Session(postgres_lorries) as session:
        session.add(lorry := Lorry(id="own"))
        lorry.apply_event(Loaded(crate=1))
        session.flush()
        assert EventStore(session, Base).follow("dock") == []
        session.commit()
        assert crates(EventStore(session, Base).follow("dock")) == [1]


def test_event_types_are_chosen_with_those_that_inherit_from_them(lorries: Engine) -> None:
    load(lorries, 1, Driven(km=5), LoadedCarefully(crate=2), Driven(km=6))
    with Session(lorries) as session:
        store = EventStore(session, Base)
        assert crates(store.follow("dock", Loaded)) == [1, 2]
        assert [each.event.km for each in store.follow("meter", Driven)] == [5, 6]
        assert crates(store.follow("careful", LoadedCarefully)) == [2]
        with pytest.raises(TypeError, match="pass DomainEvent classes"):
            store.follow("dock", "Loaded")  # type: ignore[call-overload]


@pytest.mark.parametrize(("start", "expected"), [("beginning", [1, 2, 3]), (1, [2, 3]), ("now", []), (9, [])])
def test_a_new_name_begins_where_it_is_told_to(lorries: Engine, start: Any, expected: list[int]) -> None:
    load(lorries, 1, 2, 3)
    assert follow(lorries, start=start) == expected
    load(lorries, 4)
    assert follow(lorries, start=start) == ([] if start == 9 else [4])


def test_it_begins_at_a_time(lorries: Engine) -> None:
    load(lorries, 1)
    moment = datetime.now(UTC)
    assert follow(lorries, start=moment) == []
    load(lorries, 2, 3)
    assert follow(lorries, start=moment) == [2, 3]


def test_an_event_that_cannot_be_read_moves_nothing(lorries: Engine) -> None:
    load(lorries, 1)
    tables = tables_on(Base.metadata)
    with Session(lorries) as session:
        session.execute(
            text(
                "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, "
                "occurred_at, position) SELECT :id, aggregate_type, 'b', version, event_type, event_version, '{}', occurred_at, 2 "
                "FROM events"
            )
            if lorries.dialect.name == "sqlite"
            else text(
                "INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, "
                "occurred_at) SELECT cast(:id AS uuid), aggregate_type, 'b', version, event_type, event_version, '{}', occurred_at "
                "FROM events"
            ),
            {"id": "11111111-2222-4333-8444-555555555555"},
        )
        session.commit()
        store = EventStore(session, Base)
        with pytest.raises(EventDecodeError):
            store.follow("dock")
        session.commit()
        assert crates(store.follow("dock", batch=1)) == [1]
        session.commit()
        assert session.scalar(select(tables.projection_positions.c.last_processed_position)) == 1


async def test_an_async_session_follows_as_well(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        session.add(lorry := Lorry(id="a"))
        for number in (1, 2, 3):
            lorry.apply_event(Loaded(crate=number))
        await session.commit()
        store = AsyncEventStore(session, Base)
        assert crates(await store.follow("dock", Loaded, batch=2)) == [1, 2]
        await session.commit()
        assert crates(await store.follow("dock")) == [3]
        await session.rollback()
        assert crates(await store.follow("dock")) == [3]


def test_without_a_base_it_follows_the_tables_of_the_default_names(lorries: Engine) -> None:
    load(lorries, 1)
    with Session(lorries) as session:
        assert crates(EventStore(session).follow("dock")) == [1]
        session.commit()
    assert follow(lorries) == []


@pytest.mark.parametrize("name", ["readers.crates", "readers.horn", "", "a#1", "x" * 256])
def test_a_name_that_another_has_or_nobody_can_have_is_refused(lorries: Engine, name: str) -> None:
    with Session(lorries) as session, pytest.raises(DeclarationError):
        EventStore(session, Base).follow(name)


def test_a_name_that_another_has_is_refused_where_only_the_database_tells(lorries: Engine) -> None:
    load(lorries, Driven(km=1))
    Worker(lorries, Base).run_once()
    with Session(lorries) as session:
        for name in ("readers.horn", "readers.crates"):
            with pytest.raises(DeclarationError, match="a read model or a subscription has that name"):
                EventStore(session).follow(name)


def test_a_subscription_under_the_name_of_a_reader_says_what_to_do(lorries: Engine, caplog: pytest.LogCaptureFixture) -> None:
    load(lorries, Driven(km=1))
    with Session(lorries) as session:
        EventStore(session).follow("readers.horn")
        session.commit()
    assert Worker(lorries, Base, only=["readers.horn"]).run_once() == 0
    assert (
        "readers.horn does not follow: subscription 'readers.horn': the checkpoint under that name is that of a reader"
        in caplog.text
    )


def test_wrong_arguments_are_refused(lorries: Engine) -> None:
    with Session(lorries) as session:
        store = EventStore(session, Base)
        with pytest.raises(ValueError, match="batch must be how many events at most"):
            store.follow("dock", batch=0)
        with pytest.raises(TypeError, match="batch must be"):
            store.follow("dock", batch="all")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match='start must be "beginning", "now"'):
            store.follow("dock", start="later")  # type: ignore[call-overload]


def test_in_autocommit_mode_it_is_refused(postgres_lorries: Engine) -> None:
    with Session(postgres_lorries.execution_options(isolation_level="AUTOCOMMIT")) as session, pytest.raises(AutocommitError):
        EventStore(session, Base).follow("dock")


def status(engine: Engine) -> dict[str, tuple[str, str, int, int]]:
    found = ReadModelManager(engine, Base).status()
    return {each.name: (each.kind, each.state, each.position, each.lag_events) for each in found if each.kind == "reader"}


def test_the_status_shows_it(lorries: Engine) -> None:
    load(lorries, 1, 2, 3)
    assert status(lorries) == {}
    follow(lorries, batch=2)
    assert status(lorries) == {"dock": ("reader", "running", 2, 1)}
    follow(lorries)
    assert status(lorries) == {"dock": ("reader", "running", 3, 0)}
    assert verify(lorries, Base).is_sound
    assert verify(lorries, Base).findings == ()


def test_types_that_it_does_not_ask_for_are_no_lag_once_it_has_asked(lorries: Engine) -> None:
    load(lorries, 1, 2)
    with Session(lorries) as session:
        store = EventStore(session, Base)
        assert store.follow("meter", Driven) == []
        session.commit()
        load(lorries, 3)
        assert status(lorries)["meter"][3] == 1
        assert store.follow("meter", Driven) == []
        session.commit()
    assert status(lorries)["meter"][3] == 0
    load(lorries, Driven(km=1))
    with Session(lorries) as session:
        assert len(EventStore(session, Base).follow("meter", Driven)) == 1
    assert verify(lorries, Base).findings == ()


def test_it_is_sent_back_and_retired(lorries: Engine) -> None:
    load(lorries, 1, 2, 3)
    follow(lorries)
    replayer = EventReplayer(lorries, Base)
    assert replayer.rewind("dock", to=1) == 2
    assert follow(lorries) == [2, 3]
    assert replayer.retire("dock") == 0
    assert status(lorries) == {}
    assert follow(lorries) == [1, 2, 3]


def test_a_log_of_another_cluster_is_not_followed(postgres_lorries: Engine) -> None:
    load(postgres_lorries, 1)
    follow(postgres_lorries)
    load(postgres_lorries, 2)
    positions = tables_on(Base.metadata).projection_positions
    with postgres_lorries.begin() as connection:
        connection.execute(update(positions).values(cluster="1"))
    with Session(postgres_lorries) as session, pytest.raises(MovedLogError):
        EventStore(session, Base).follow("dock")
