"""Archiving a closed stream and bringing it back."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, MetaData, create_engine, event, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Session, lazyload

from sa_eventsource import (
    AggregateNotFoundError,
    ArchiveError,
    DeclarationError,
    EventIdConflictError,
    EventReplayer,
    EventSourcedRepository,
    EventStore,
    ExpectedVersion,
    ProofOptions,
    StreamArchivedError,
    StreamClosedError,
    archive,
    archived_streams,
    async_archive,
    async_archived_streams,
    async_unarchive,
    event_context,
    export_events,
    newest_head,
    prove,
    unarchive,
)
from sa_eventsource.mapping.immutability import SWITCH, create_statements, drop_statements
from sa_eventsource.session.retry import is_conflict, retry_on_conflict
from sa_eventsource.verification import verify
from tests.databases import WAITING_FOR_EVENTS
from tests.ending.tills import Base, Goods, Labels, Till, Tills, all_rows, follow_all, heard, sell
from tests.shop import AnyTill, Sold
from tests.threads import in_thread
from tests.waiting import wait_until

EVENTS = Base.metadata.tables["events"]
ARCHIVED = Base.metadata.tables["archived_events"]
SNAPSHOTS = Base.metadata.tables["snapshots"]


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def shop(engine: Engine) -> Engine:
    sell(engine, "t-1", "pen", "ink", "pen")
    sell(engine, "t-2", "pen", close=False)
    sell(engine, "t-3", "map", "pen")
    follow_all(engine)
    heard.clear()
    return engine


def put_away(engine: Engine, till_id: str = "t-1") -> Any:
    with Session(engine) as session, event_context(user="ann"):
        done = archive(session, Till, till_id, reason="year 2026")
        session.commit()
        return done


def bring_back(engine: Engine, till_id: str = "t-1") -> Any:
    with Session(engine) as session:
        done = unarchive(session, Till, till_id, reason="an inspection")
        session.commit()
        return done


def sales(engine: Engine) -> dict[str, int]:
    with Session(engine) as session:
        return {row.what: row.times for row in session.scalars(select(Goods))}


def wrong(engine: Engine) -> list[str]:
    return [str(each) for each in verify(engine, Base, proofs=True).findings if not each.is_warning]


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


# --- what is refused ---


def test_an_open_stream_an_unknown_one_and_one_of_its_end_alone_are_refused(shop: Engine) -> None:
    sell(shop, "t-0")
    with Session(shop) as session:
        with pytest.raises(ArchiveError, match="close_stream"):
            archive(session, Till, "t-2", reason="r")
        with pytest.raises(AggregateNotFoundError):
            archive(session, Till, "nobody", reason="r")
        with pytest.raises(ArchiveError, match="no event but the one"):
            archive(session, Till, "t-0", reason="r")
        with pytest.raises(ArchiveError, match="not archived"):
            unarchive(session, Till, "t-1", reason="r")
        for function in (archive, unarchive):
            with pytest.raises(ValueError, match="for the record"):
                function(session, Till, "t-1", reason=" ")
            with pytest.raises(TypeError, match="write a text"):
                function(session, Till, "t-1", reason=None)  # type: ignore[arg-type]


def test_an_archived_stream_is_not_archived_again(shop: Engine) -> None:
    put_away(shop)
    with Session(shop) as session, pytest.raises(StreamArchivedError):
        archive(session, Till, "t-1", reason="r")


def test_a_base_without_archives_says_how_to_have_them(engine: Engine) -> None:
    class Plain(DeclarativeBase):
        pass

    class PlainTill(AnyTill, Plain):
        __aggregate_type__ = "archiving.PlainTill"

    with Session(engine) as session:
        with pytest.raises(DeclarationError, match="archives="):
            archive(session, PlainTill, "t-1", reason="r")
        with pytest.raises(DeclarationError, match="archives="):
            archived_streams(session, base=Plain)


def test_events_that_somebody_has_yet_to_take_stay(engine: Engine) -> None:
    sell(engine, "t-1", "pen")
    follow_all(engine)
    sell(engine, "t-2", "pen")
    with Session(engine) as session:
        with pytest.raises(ArchiveError, match="archiving_goods, archiving_heard, archiving_labels has yet to take"):
            archive(session, Till, "t-2", reason="r")
        archive(session, Till, "t-1", reason="r")


def test_events_that_are_not_in_the_tree_yet_stay(shop: Engine) -> None:
    with shop.begin() as connection:
        connection.execute(text("DELETE FROM merkle_tree"))
    with Session(shop) as session, pytest.raises(ArchiveError, match="Merkle tree"):
        archive(session, Till, "t-1", reason="r")


def test_parked_events_stay(shop: Engine) -> None:
    with Session(shop) as session:
        parked = Base.metadata.tables["parked_events"]
        session.execute(
            parked.insert().values(
                projection_name="archiving_goods",
                position=1,
                event_id=UUID(int=1),
                aggregate_type="archiving.Till",
                aggregate_id="t-1",
            )
        )
        with pytest.raises(ArchiveError, match="parked for archiving_goods"):
            archive(session, Till, "t-1", reason="r")


def test_nothing_comes_back_into_a_backlog_that_is_being_worked_off(shop: Engine) -> None:
    put_away(shop)
    with Session(shop) as session:
        session.execute(
            text("UPDATE projection_positions SET window_end = snapshot_cursor WHERE projection_name = 'archiving_heard'")
        )
        if shop.dialect.name == "sqlite":
            session.execute(text("UPDATE projection_positions SET window_end = '3:3:' WHERE projection_name = 'archiving_heard'"))
        with pytest.raises(ArchiveError, match="archiving_heard is working off a backlog"):
            unarchive(session, Till, "t-1", reason="r")


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ("event_id", "version 1, event {id}, is stored again as version 1 of archiving.Till 't-9'"),
        ("position", "version 1, event {id}, has position {position}, where version 1 of archiving.Till 't-9' stands"),
    ],
)
def test_what_has_taken_its_place_meanwhile_is_named(shop: Engine, taken: str, said: str) -> None:
    put_away(shop)
    with shop.begin() as connection:
        first: Any = connection.execute(select(ARCHIVED).where(ARCHIVED.c.version == 1, ARCHIVED.c.aggregate_id == "t-1")).one()
        values = {**first._mapping, "event_id": uuid4(), "position": first.position + 1000, "aggregate_id": "t-9"}
        connection.execute(insert(EVENTS).values({**values, taken: getattr(first, taken)}))
    with Session(shop) as session:
        with pytest.raises(ArchiveError) as caught:
            unarchive(session, Till, "t-1", reason="r")
        assert said.format(id=first.event_id, position=first.position) in caught.value.reason
        assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("archiving.Till", "t-1")
        assert isinstance(caught.value.__cause__, IntegrityError)
        session.commit()
    with shop.connect() as connection:
        assert [row[4] for row in all_rows(connection, "t-1")] == ["sa_eventsource.StreamArchived"]
        assert len(connection.execute(select(ARCHIVED)).all()) == 4
    with pytest.raises(DBAPIError), shop.begin() as connection:
        connection.execute(text("DELETE FROM events"))


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


def test_a_transaction_that_sees_one_state_is_refused(postgres_engine: Engine) -> None:
    sell(postgres_engine, "t-1", "pen")
    follow_all(postgres_engine)
    one_state = postgres_engine.execution_options(isolation_level="REPEATABLE READ")
    with Session(one_state) as session, pytest.raises(ArchiveError, match="READ COMMITTED"):
        archive(session, Till, "t-1", reason="r")


# --- alterations and proofs ---


def altered(engine: Engine, statement: str) -> None:
    """Change archived events behind the triggers' back."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL {SWITCH} = 'on'"))
            connection.execute(text(statement))
        else:
            for each in drop_statements(ARCHIVED, "sqlite"):
                connection.execute(each)
            connection.execute(text(statement))
            for each in create_statements(ARCHIVED, "sqlite"):
                connection.execute(each)


def test_archived_events_are_immutable_too(shop: Engine) -> None:
    put_away(shop)
    for statement in ("UPDATE archived_events SET version = 9", "DELETE FROM archived_events"):
        with shop.connect() as connection, pytest.raises(DBAPIError, match="immutable"):
            connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE archived_events SET event_data = \'{"what": "weed"}\' WHERE version = 2',
        "UPDATE archived_events SET occurred_at = '2020-01-01 00:00:00+00:00' WHERE version = 1",
        "UPDATE archived_events SET position = 100 WHERE version = 1",
        "DELETE FROM archived_events WHERE version = 3",
    ],
    ids=["payload", "time", "position", "missing"],
)
def test_what_was_altered_is_found_and_not_brought_back(shop: Engine, statement: str) -> None:
    put_away(shop)
    altered(shop, statement)
    findings = wrong(shop)
    assert any(each.startswith("archives: archiving.Till 't-1'") for each in findings)
    assert any(each.startswith("proofs:") for each in findings)
    with Session(shop) as session, pytest.raises(ArchiveError, match="not what was archived"):
        unarchive(session, Till, "t-1", reason="r")


def test_a_manifest_or_a_marker_that_is_missing_is_found(shop: Engine) -> None:
    put_away(shop)
    with shop.begin() as connection:
        connection.execute(text("DELETE FROM archives"))
    assert [each.split(": ", 2)[2][:40] for each in wrong(shop) if each.startswith("archives")] == [
        "it is marked as archived, and there is n",
        "events of it are in archived_events, and",
    ]
    with Session(shop) as session, pytest.raises(ArchiveError, match="not archived"):
        unarchive(session, Till, "t-1", reason="r")


def test_verify_says_how_many_are_archived_and_proofs_hold(shop: Engine) -> None:
    with Session(shop) as session:
        head = newest_head(session, base=Base)
        assert head is not None
        event_id: Any = session.scalar(select(EVENTS.c.event_id).where(EVENTS.c.aggregate_id == "t-1", EVENTS.c.version == 2))
        before = prove(session, event_id, head=head, base=Base)
    put_away(shop)
    found = verify(shop, Base, proofs=ProofOptions(heads=[head]))
    assert (found.is_sound, found.findings, found.archived, found.covered) == (True, (), 1, 8)
    with Session(shop) as session:
        assert prove(session, event_id, head=head, base=Base) == before
    bring_back(shop)
    found = verify(shop, Base, proofs=ProofOptions(heads=[head]))
    assert (found.findings, found.archived) == ((), 0)


def test_the_tree_goes_on_growing_behind_an_archive(shop: Engine) -> None:
    put_away(shop)
    sell(shop, "t-8", "pen")
    follow_all(shop)
    assert wrong(shop) == []
    bring_back(shop)
    assert wrong(shop) == []


# --- async, and many at once ---


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


def test_of_threads_that_archive_append_and_bring_back_none_loses_an_event(postgres_engine: Engine) -> None:
    engine = create_engine(postgres_engine.url, pool_size=8)
    for till_id in ("t-1", "t-2"):
        sell(engine, till_id, "pen", "ink")
    follow_all(engine)
    with engine.connect() as connection:
        before = {till_id: all_rows(connection, till_id) for till_id in ("t-1", "t-2")}
    start, unexpected, done = threading.Barrier(5), list[BaseException](), list[str]()

    @retry_on_conflict(attempts=20)
    def once(work: Any, till_id: str) -> None:
        with Session(engine) as session:
            work(session, Till, till_id, reason="r")
            session.commit()

    def repeat(work: Any, till_id: str) -> None:
        start.wait(timeout=30)
        for _ in range(10):
            try:
                once(work, till_id)
                done.append(work.__name__)
            except (ArchiveError, StreamArchivedError):
                pass
            except BaseException as error:
                unexpected.append(error)

    def begin_again() -> None:
        start.wait(timeout=30)
        for _ in range(20):
            for till_id in ("t-1", "t-2"):
                try:
                    with Session(engine) as session:
                        till = Till(id=till_id)
                        till.sell("pen")
                        session.add(till)
                        session.commit()
                    unexpected.append(AssertionError("it began again"))
                except StreamClosedError:
                    pass
                except BaseException as error:
                    if not is_conflict(error):
                        unexpected.append(error)

    workers = [(archive, "t-1"), (unarchive, "t-1"), (archive, "t-2"), (unarchive, "t-1")]
    threads = [threading.Thread(target=repeat, args=each) for each in workers] + [threading.Thread(target=begin_again)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert unexpected == []
    assert "archive" in done
    for till_id in ("t-1", "t-2"):
        with Session(engine) as session:
            if any(each.aggregate_id == till_id for each in archived_streams(session, base=Base)):
                unarchive(session, Till, till_id, reason="r")
                session.commit()
    with engine.connect() as connection:
        assert {till_id: all_rows(connection, till_id) for till_id in ("t-1", "t-2")} == before
    assert wrong(engine) == []
    engine.dispose()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("is_new", [False, True], ids=["goes on", "begins"])
def test_a_stream_that_an_older_transaction_may_go_on_with_stays(postgres_engine: Engine, level: str, is_new: bool) -> None:
    Base.metadata.create_all(postgres_engine)
    if not is_new:
        sell(postgres_engine, "t-9", "pen", close=False)
    with Session(postgres_engine.execution_options(isolation_level=level)) as older:
        till = older.get(Till, "t-9")
        assert (till is None) is is_new
        if is_new:
            sell(postgres_engine, "t-9", "pen", close=False)
        with Session(postgres_engine) as session:
            session.get_one(Till, "t-9").sell("ink")
            session.commit()
            session.get_one(Till, "t-9").close_stream("full")
            session.commit()
        follow_all(postgres_engine)
        with Session(postgres_engine) as session, pytest.raises(ArchiveError, match="before it was closed"):
            archive(session, Till, "t-9", reason="old")
        if till is None:
            till = Till(id="t-9")
            older.add(till)
        till.sell("late")
        with pytest.raises((DBAPIError, InvalidRequestError)):
            older.commit()
    with Session(postgres_engine) as session:
        archive(session, Till, "t-9", reason="old")
        session.commit()
        unarchive(session, Till, "t-9", reason="needed")
        session.commit()
    assert verify(postgres_engine, Base).findings == ()


def test_what_is_closed_in_the_same_transaction_stays(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        till = Till(id="t-9")
        till.sell("pen")
        till.close_stream("full")
        session.add(till)
        session.flush()
        with pytest.raises(ArchiveError, match=r"before it was closed|has yet to take"):
            archive(session, Till, "t-9", reason="old")


def test_writers_wait_until_a_stream_is_archived(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    sell(postgres_engine, "t-9", "pen")
    follow_all(postgres_engine)
    with Session(postgres_engine) as session:
        archive(session, Till, "t-9", reason="old")
        writing, errors = in_thread(lambda: sell(postgres_engine, "t-10", "pen"))
        with postgres_engine.connect() as connection:
            waits = text(f"SELECT count(*) {WAITING_FOR_EVENTS}")
            wait_until(lambda: connection.scalar(waits))
        assert writing.is_alive()
        session.commit()
    writing.join(60)
    assert (writing.is_alive(), errors) == (False, [])


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
