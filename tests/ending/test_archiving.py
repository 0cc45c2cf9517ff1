"""Archiving a closed stream and bringing it back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, MetaData, create_engine, event, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, lazyload

from sa_eventsource import (
    AggregateNotFoundError,
    EventIdConflictError,
    EventReplayer,
    EventSourcedRepository,
    EventStore,
    ExpectedVersion,
    StreamArchivedError,
    StreamClosedError,
    archive,
    archived_streams,
    async_archive,
    async_archived_streams,
    async_unarchive,
    event_context,
    export_events,
    unarchive,
)
from tests.ending.tills import (
    ARCHIVED,
    EVENTS,
    Base,
    Goods,
    Labels,
    Till,
    Tills,
    all_rows,
    bring_back,
    follow_all,
    heard,
    put_away,
    sales,
    sell,
    wrong,
)
from tests.shop import Sold


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


# --- out of the log ---


def test_the_manifest_says_what_who_when_and_why(shop: Engine) -> None:
    done = put_away(shop)
    assert (done.aggregate_type, done.aggregate_id, done.events) == ("archiving.Till", "t-1", 4)
    assert (done.first_position, done.last_position) == (1, 4)
    assert (done.reason, done.metadata, done.place, done.returned_at) == ("year 2026", {"user": "ann"}, "archived_events", None)
    assert abs(datetime.now(UTC) - done.archived_at) < timedelta(minutes=5)
    assert len(bytes.fromhex(done.sha256)) == 32
    assert done.models_to_rebuild == ("archiving_labels",)
    with Session(shop) as session:
        (listed,) = archived_streams(session, base=Base)
        assert (listed.archive_id, listed.sha256) == (done.archive_id, done.sha256)


def test_loading_says_where_it_is(shop: Engine) -> None:
    done = put_away(shop)
    with Session(shop) as session:
        repository = EventSourcedRepository(session, Till)
        loads: list[Any] = [
            lambda: session.get(Till, "t-1"),
            lambda: repository.get("t-1"),
            lambda: repository.load_at_version("t-1", 2),
            lambda: repository.load_at_version("t-1", 4),
            lambda: repository.load_at_time("t-1", datetime.now(UTC)),
            lambda: repository.load_at_time("t-1", datetime(2020, 1, 1, tzinfo=UTC)),
            lambda: repository.load_at_time("t-1", datetime(2020, 1, 1, tzinfo=UTC), axis="recorded"),
        ]
        for load in loads:
            with pytest.raises(StreamArchivedError, match="archived_events") as caught:
                load()
            assert (caught.value.aggregate_id, caught.value.version) == ("t-1", 4)
            assert (caught.value.archive_id, caught.value.place) == (done.archive_id, "archived_events")
            assert isinstance(caught.value, InvalidRequestError)
        with pytest.raises(AggregateNotFoundError):
            repository.load_at_version("t-9", 1)


def test_an_instance_in_a_session_is_found_archived_when_it_is_refreshed(shop: Engine) -> None:
    with Session(shop) as session:
        till = session.get_one(Till, "t-1")
        session.rollback()
        put_away(shop)
        with pytest.raises(StreamArchivedError):
            session.refresh(till)


WAYS: dict[str, Any] = {
    "populate_existing": {"populate_existing": True},
    "options": {"options": [lazyload("*")]},
    "execution options": {"execution_options": {"shop": 1}},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("get", [Session.get, Session.get_one])
def test_a_load_by_id_that_asks_for_more_says_where_it_is_too(shop: Engine, get: Any, way: str) -> None:
    put_away(shop)
    with Session(shop) as session:
        with pytest.raises(StreamArchivedError):
            get(session, Till, "t-1", **WAYS[way])
        assert session.get(Till, "t-9", **WAYS[way]) is None
        assert session.get_one(Till, "t-2", **WAYS[way]).sold == ("pen",)


def test_a_load_by_id_that_somebody_listens_to_says_where_it_is_too(shop: Engine) -> None:
    put_away(shop)
    with Session(shop) as session:
        event.listen(session, "do_orm_execute", lambda _: None)
        with pytest.raises(StreamArchivedError):
            session.get(Till, "t-1")


@pytest.mark.parametrize("listened", [True, False])
def test_an_instance_with_its_state_is_found_archived_when_it_is_loaded_again(shop: Engine, listened: bool) -> None:
    with Session(shop, expire_on_commit=False) as session:
        till = session.get_one(Till, "t-1")
        session.commit()
        put_away(shop)
        if listened:
            event.listen(session, "do_orm_execute", lambda _: None)
        with pytest.raises(StreamArchivedError):
            session.get(Till, "t-1", populate_existing=True)
        with pytest.raises(StreamArchivedError):
            session.refresh(till)


def test_queries_leave_it_out(shop: Engine) -> None:
    put_away(shop)
    with Session(shop) as session:
        assert sorted(session.scalars(select(Till.id))) == ["t-2", "t-3"]
        assert sorted(till.id for till in session.scalars(select(Till))) == ["t-2", "t-3"]
        events = EventStore(session, Base).events
        assert {each.aggregate_id for each in events.all()} == {"t-2", "t-3"}
        assert events.of(Till, "t-1").count() == 0
    with shop.connect() as connection:
        exported = list(export_events(connection, EVENTS))
        assert len(exported) == 1 + 4
        assert not any('"t-1"' in line for line in exported)
        kept = list(export_events(connection, ARCHIVED))
        assert [line.split('"version":')[1].split(",")[0] for line in kept[1:]] == ["1", "2", "3", "4"]


def test_rows_of_read_models_go_with_it_and_a_rebuild_changes_nothing(shop: Engine) -> None:
    assert sales(shop) == {"pen": 4, "ink": 1, "map": 1}
    put_away(shop)
    assert sales(shop) == {"pen": 2, "map": 1}
    EventReplayer(shop, Base).rebuild(Goods)
    assert sales(shop) == {"pen": 2, "map": 1}
    with Session(shop) as session:
        assert session.get(Tills, "t-1") is None
        assert session.scalars(select(Labels.till)).all() == ["t-1", "t-2", "t-3"]
    assert wrong(shop) == []


def test_nobody_begins_it_again(shop: Engine) -> None:
    put_away(shop)
    with Session(shop) as session:
        again = Till(id="t-1")
        again.sell("pen")
        session.add(again)
        with pytest.raises(StreamClosedError) as caught:
            session.commit()
        assert (caught.value.version, caught.value.reason) == (4, "sold out")
    with Session(shop) as session:
        tills = [Till(id="t-1"), Till(id="t-9")]
        for till in tills:
            till.sell("pen", "pen")
        session.add_all(tills)
        with pytest.raises(StreamClosedError):
            session.commit()
    expected: list[Any] = [ExpectedVersion.ANY, ExpectedVersion.NO_STREAM, 0, 1, 3, 4]
    for each in expected:
        with Session(shop) as session, pytest.raises(StreamClosedError):
            EventSourcedRepository(session, Till).append("t-1", [Sold()], expected_version=each)
    with shop.connect() as connection:
        assert [row[4] for row in all_rows(connection, "t-1")] == ["sa_eventsource.StreamArchived"]
        assert all_rows(connection, "t-9") == []


def test_who_loaded_it_before_and_appends_after_is_refused(shop: Engine) -> None:
    sell(shop, "t-4", "pen", close=False)
    with Session(shop) as session:
        till = session.get_one(Till, "t-4")
        session.expunge(till)
    with Session(shop) as session:
        session.get_one(Till, "t-4").close_stream()
        session.commit()
    follow_all(shop)
    put_away(shop, "t-4")
    with Session(shop) as session:
        session.add(till)
        till.sell("pen")
        with pytest.raises(StreamClosedError):
            session.commit()


def test_a_new_stream_begins_as_ever(shop: Engine) -> None:
    sell(shop, "t-5", "map")
    with Session(shop) as session:
        tills = [Till(id="t-6"), Till(id="t-7")]
        for till in tills:
            till.sell("map", "pen")
        session.add_all(tills)
        session.commit()
        assert session.get_one(Till, "t-6").sold == ("map", "pen")


# --- and back ---


def test_it_comes_back_value_by_value(shop: Engine) -> None:
    with shop.connect() as connection:
        before = all_rows(connection, "t-1")
    there = sales(shop)
    put_away(shop)
    done = bring_back(shop)
    assert done.returned_at is not None
    with shop.connect() as connection:
        assert all_rows(connection, "t-1") == before
        assert connection.execute(select(ARCHIVED)).all() == []
    assert sales(shop) == there
    with Session(shop) as session:
        till = session.get_one(Till, "t-1")
        assert (till.sold, till.is_stream_closed) == (("pen", "ink", "pen"), True)
        assert session.get_one(Tills, "t-1").is_open is False
        assert archived_streams(session, base=Base) == []
        (returned,) = archived_streams(session, base=Base, returned=True)
        assert returned.archive_id == done.archive_id
    assert wrong(shop) == []


def test_followers_miss_nothing_and_get_nothing_twice(shop: Engine) -> None:
    put_away(shop)
    sell(shop, "t-8", "pen")
    follow_all(shop)
    bring_back(shop)
    follow_all(shop)
    assert heard == [("t-8", 1), ("t-8", 2)]
    assert wrong(shop) == []


def test_a_stream_goes_out_and_in_again_and_again(shop: Engine) -> None:
    first = put_away(shop)
    bring_back(shop)
    second = put_away(shop)
    assert (first.sha256, first.archive_id != second.archive_id) == (second.sha256, True)
    assert wrong(shop) == []
    bring_back(shop)
    with Session(shop) as session:
        assert len(archived_streams(session, base=Base, returned=True)) == 2


texts = st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(tills=st.lists(st.lists(texts, min_size=1, max_size=5), min_size=1, max_size=3), away=st.integers(0, 2))
def test_to_archive_and_bring_back_is_the_identity(engine: Engine, tills: list[list[str]], away: int) -> None:
    prefix = str(UUID(int=abs(hash((str(tills), away))) % 2**128))
    ids = [f"{prefix}-{number}" for number in range(len(tills))]
    for till_id, names in zip(ids, tills, strict=True):
        with Session(engine) as session:
            if session.scalar(select(Till.id).where(Till.id == till_id)) is not None:
                return  # Hypothesis has drawn it before
        with event_context(note="".join(names)):
            sell(engine, till_id, *names)
    follow_all(engine)
    which = ids[away % len(ids)]
    with engine.connect() as connection:
        before = {each: all_rows(connection, each) for each in ids}
    counts = sales(engine)
    put_away(engine, which)
    with engine.connect() as connection:
        assert {each: all_rows(connection, each) for each in ids if each != which} == {
            each: rows for each, rows in before.items() if each != which
        }
    bring_back(engine, which)
    with engine.connect() as connection:
        assert {each: all_rows(connection, each) for each in ids} == before
    assert sales(engine) == counts


def test_in_another_cluster_it_comes_back_as_seen_by_all(postgres_engine: Engine) -> None:
    sell(postgres_engine, "t-1", "pen", "ink")
    follow_all(postgres_engine)
    put_away(postgres_engine)
    heard.clear()
    with postgres_engine.begin() as connection:
        before = connection.execute(select(ARCHIVED.c.event_id, ARCHIVED.c.position, ARCHIVED.c.recorded_at)).all()
        connection.execute(text("UPDATE archives SET cluster = '4711'"))
    bring_back(postgres_engine)
    follow_all(postgres_engine)
    with postgres_engine.connect() as connection:
        assert connection.execute(select(EVENTS.c.event_id, EVENTS.c.position, EVENTS.c.recorded_at)).all() == before
        assert set(connection.scalars(text("SELECT CAST(transaction_id AS text) FROM events"))) == {"3"}
    assert heard == []
    assert wrong(postgres_engine) == []


def test_a_dry_run_changes_nothing(shop: Engine) -> None:
    with shop.connect() as connection:
        before = all_rows(connection, "t-1")
    with Session(shop) as session:
        asked = archive(session, Till, "t-1", reason="r", dry_run=True)
        session.commit()
        assert (asked.events, asked.last_position) == (4, 4)
        assert archived_streams(session, base=Base, returned=True) == []
    with shop.connect() as connection:
        assert all_rows(connection, "t-1") == before
    done = put_away(shop)
    assert done.sha256 == asked.sha256
    with Session(shop) as session:
        assert unarchive(session, Till, "t-1", reason="r", dry_run=True).archive_id == done.archive_id
        session.commit()
        with pytest.raises(StreamArchivedError):
            session.get(Till, "t-1")


def test_a_rollback_undoes_it(shop: Engine) -> None:
    with shop.connect() as connection:
        before = all_rows(connection, "t-1")
    with Session(shop) as session:
        archive(session, Till, "t-1", reason="r")
        session.rollback()
        assert session.get_one(Till, "t-1").version == 4
    with shop.connect() as connection:
        assert all_rows(connection, "t-1") == before


async def test_async(async_engine: AsyncEngine) -> None:
    url = async_engine.url
    engine = create_engine(url.set(drivername="sqlite") if url.drivername.startswith("sqlite") else url)
    sell(engine, "t-1", "pen")
    follow_all(engine)
    async with AsyncSession(async_engine) as session:
        done = await async_archive(session, Till, "t-1", reason="r")
        assert await async_archived_streams(session, base=Base) == [replace(done, models_to_rebuild=())]
        with pytest.raises(StreamArchivedError):
            await session.get(Till, "t-1", populate_existing=True)
        assert (await async_unarchive(session, Till, "t-1", reason="r")).returned_at is not None
        assert await async_archived_streams(session, base=Base) == []
        await session.commit()
        assert (await session.get_one(Till, "t-1")).sold == ("pen",)
    engine.dispose()


def test_the_ids_of_archived_events_are_taken(shop: Engine) -> None:
    with Session(shop) as session:
        event_id = EventStore(session, Base).events.of(Till, "t-1").all()[0].event_id
    follow_all(shop)
    with Session(shop) as session:
        archive(session, Till, "t-1", reason="old")
        session.commit()
        session.get_one(Till, "t-2").apply_event(Sold(what="pen"), event_id=event_id)
        with pytest.raises(EventIdConflictError) as caught:
            session.commit()
        assert caught.value.event_id == event_id
