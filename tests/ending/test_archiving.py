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
    AggregateRoot,
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
from tests.ending.garden import Base, Bed, Beds, Labels, Planted, Plants, all_rows, follow_all, heard, plant
from tests.waiting import wait_until

EVENTS = Base.metadata.tables["events"]
ARCHIVED = Base.metadata.tables["archived_events"]
SNAPSHOTS = Base.metadata.tables["snapshots"]


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def garden(engine: Engine) -> Engine:
    plant(engine, "b-1", "leek", "chard", "leek")
    plant(engine, "b-2", "leek", close=False)
    plant(engine, "b-3", "sage", "leek")
    follow_all(engine)
    heard.clear()
    return engine


def put_away(engine: Engine, bed_id: str = "b-1") -> Any:
    with Session(engine) as session, event_context(user="ann"):
        done = archive(session, Bed, bed_id, reason="season 2026")
        session.commit()
        return done


def bring_back(engine: Engine, bed_id: str = "b-1") -> Any:
    with Session(engine) as session:
        done = unarchive(session, Bed, bed_id, reason="an inspection")
        session.commit()
        return done


def plants(engine: Engine) -> dict[str, int]:
    with Session(engine) as session:
        return {row.plant: row.times for row in session.scalars(select(Plants))}


def wrong(engine: Engine) -> list[str]:
    return [str(each) for each in verify(engine, Base, proofs=True).findings if not each.is_warning]


# --- out of the log ---


def test_the_manifest_says_what_who_when_and_why(garden: Engine) -> None:
    done = put_away(garden)
    assert (done.aggregate_type, done.aggregate_id, done.events) == ("archiving.Bed", "b-1", 4)
    assert (done.first_position, done.last_position) == (1, 4)
    assert (done.reason, done.metadata, done.place, done.returned_at) == ("season 2026", {"user": "ann"}, "archived_events", None)
    assert abs(datetime.now(UTC) - done.archived_at) < timedelta(minutes=5)
    assert len(bytes.fromhex(done.sha256)) == 32
    assert done.models_to_rebuild == ("archiving_labels",)
    with Session(garden) as session:
        (listed,) = archived_streams(session, base=Base)
        assert (listed.archive_id, listed.sha256) == (done.archive_id, done.sha256)


def test_loading_says_where_it_is(garden: Engine) -> None:
    done = put_away(garden)
    with Session(garden) as session:
        repository = EventSourcedRepository(session, Bed)
        loads: list[Any] = [
            lambda: session.get(Bed, "b-1"),
            lambda: repository.get("b-1"),
            lambda: repository.load_at_version("b-1", 2),
            lambda: repository.load_at_version("b-1", 4),
            lambda: repository.load_at_time("b-1", datetime.now(UTC)),
            lambda: repository.load_at_time("b-1", datetime(2020, 1, 1, tzinfo=UTC)),
            lambda: repository.load_at_time("b-1", datetime(2020, 1, 1, tzinfo=UTC), axis="recorded"),
        ]
        for load in loads:
            with pytest.raises(StreamArchivedError, match="archived_events") as caught:
                load()
            assert (caught.value.aggregate_id, caught.value.version) == ("b-1", 4)
            assert (caught.value.archive_id, caught.value.place) == (done.archive_id, "archived_events")
            assert isinstance(caught.value, InvalidRequestError)
        with pytest.raises(AggregateNotFoundError):
            repository.load_at_version("b-9", 1)


def test_an_instance_in_a_session_is_found_archived_when_it_is_refreshed(garden: Engine) -> None:
    with Session(garden) as session:
        bed = session.get_one(Bed, "b-1")
        session.rollback()
        put_away(garden)
        with pytest.raises(StreamArchivedError):
            session.refresh(bed)


WAYS: dict[str, Any] = {
    "populate_existing": {"populate_existing": True},
    "options": {"options": [lazyload("*")]},
    "execution options": {"execution_options": {"garden": 1}},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("get", [Session.get, Session.get_one])
def test_a_load_by_id_that_asks_for_more_says_where_it_is_too(garden: Engine, get: Any, way: str) -> None:
    put_away(garden)
    with Session(garden) as session:
        with pytest.raises(StreamArchivedError):
            get(session, Bed, "b-1", **WAYS[way])
        assert session.get(Bed, "b-9", **WAYS[way]) is None
        assert session.get_one(Bed, "b-2", **WAYS[way]).plants == ("leek",)


def test_a_load_by_id_that_somebody_listens_to_says_where_it_is_too(garden: Engine) -> None:
    put_away(garden)
    with Session(garden) as session:
        event.listen(session, "do_orm_execute", lambda _: None)
        with pytest.raises(StreamArchivedError):
            session.get(Bed, "b-1")


@pytest.mark.parametrize("listened", [True, False])
def test_an_instance_with_its_state_is_found_archived_when_it_is_loaded_again(garden: Engine, listened: bool) -> None:
    with Session(garden, expire_on_commit=False) as session:
        bed = session.get_one(Bed, "b-1")
        session.commit()
        put_away(garden)
        if listened:
            event.listen(session, "do_orm_execute", lambda _: None)
        with pytest.raises(StreamArchivedError):
            session.get(Bed, "b-1", populate_existing=True)
        with pytest.raises(StreamArchivedError):
            session.refresh(bed)


def test_queries_leave_it_out(garden: Engine) -> None:
    put_away(garden)
    with Session(garden) as session:
        assert sorted(session.scalars(select(Bed.id))) == ["b-2", "b-3"]
        assert sorted(bed.id for bed in session.scalars(select(Bed))) == ["b-2", "b-3"]
        events = EventStore(session, Base).events
        assert {each.aggregate_id for each in events.all()} == {"b-2", "b-3"}
        assert events.of(Bed, "b-1").count() == 0
    with garden.connect() as connection:
        exported = list(export_events(connection, EVENTS))
        assert len(exported) == 1 + 4
        assert not any('"b-1"' in line for line in exported)
        kept = list(export_events(connection, ARCHIVED))
        assert [line.split('"version":')[1].split(",")[0] for line in kept[1:]] == ["1", "2", "3", "4"]


def test_rows_of_read_models_go_with_it_and_a_rebuild_changes_nothing(garden: Engine) -> None:
    assert plants(garden) == {"leek": 4, "chard": 1, "sage": 1}
    put_away(garden)
    assert plants(garden) == {"leek": 2, "sage": 1}
    EventReplayer(garden, Base).rebuild(Plants)
    assert plants(garden) == {"leek": 2, "sage": 1}
    with Session(garden) as session:
        assert session.get(Beds, "b-1") is None
        assert session.scalars(select(Labels.bed)).all() == ["b-1", "b-2", "b-3"]
    assert wrong(garden) == []


def test_nobody_begins_it_again(garden: Engine) -> None:
    put_away(garden)
    with Session(garden) as session:
        again = Bed(id="b-1")
        again.apply_event(Planted(plant="weed"))
        session.add(again)
        with pytest.raises(StreamClosedError) as caught:
            session.commit()
        assert (caught.value.version, caught.value.reason) == (4, "frost")
    with Session(garden) as session:
        beds = [Bed(id="b-1"), Bed(id="b-9")]
        for bed in beds:
            bed.apply_event(Planted(plant="weed"))
            bed.apply_event(Planted(plant="weed"))
        session.add_all(beds)
        with pytest.raises(StreamClosedError):
            session.commit()
    expected: list[Any] = [ExpectedVersion.ANY, ExpectedVersion.NO_STREAM, 0, 1, 3, 4]
    for each in expected:
        with Session(garden) as session, pytest.raises(StreamClosedError):
            EventSourcedRepository(session, Bed).append("b-1", [Planted(plant="weed")], expected_version=each)
    with garden.connect() as connection:
        assert [row[4] for row in all_rows(connection, "b-1")] == ["sa_eventsource.StreamArchived"]
        assert all_rows(connection, "b-9") == []


def test_who_loaded_it_before_and_appends_after_is_refused(garden: Engine) -> None:
    plant(garden, "b-4", "leek", close=False)
    with Session(garden) as session:
        bed = session.get_one(Bed, "b-4")
        session.expunge(bed)
    with Session(garden) as session:
        session.get_one(Bed, "b-4").close_stream()
        session.commit()
    follow_all(garden)
    put_away(garden, "b-4")
    with Session(garden) as session:
        session.add(bed)
        bed.apply_event(Planted(plant="weed"))
        with pytest.raises(StreamClosedError):
            session.commit()


def test_a_new_stream_begins_as_ever(garden: Engine) -> None:
    plant(garden, "b-5", "sage")
    with Session(garden) as session:
        beds = [Bed(id="b-6"), Bed(id="b-7")]
        for bed in beds:
            bed.apply_event(Planted(plant="sage"))
            bed.apply_event(Planted(plant="leek"))
        session.add_all(beds)
        session.commit()
        assert session.get_one(Bed, "b-6").plants == ("sage", "leek")


# --- and back ---


def test_it_comes_back_value_by_value(garden: Engine) -> None:
    with garden.connect() as connection:
        before = all_rows(connection, "b-1")
    there = plants(garden)
    put_away(garden)
    done = bring_back(garden)
    assert done.returned_at is not None
    with garden.connect() as connection:
        assert all_rows(connection, "b-1") == before
        assert connection.execute(select(ARCHIVED)).all() == []
    assert plants(garden) == there
    with Session(garden) as session:
        bed = session.get_one(Bed, "b-1")
        assert (bed.plants, bed.is_stream_closed) == (("leek", "chard", "leek"), True)
        assert session.get_one(Beds, "b-1").is_open is False
        assert archived_streams(session, base=Base) == []
        (returned,) = archived_streams(session, base=Base, returned=True)
        assert returned.archive_id == done.archive_id
    assert wrong(garden) == []


def test_followers_miss_nothing_and_get_nothing_twice(garden: Engine) -> None:
    put_away(garden)
    plant(garden, "b-8", "leek")
    follow_all(garden)
    bring_back(garden)
    follow_all(garden)
    assert heard == [("b-8", 1), ("b-8", 2)]
    assert wrong(garden) == []


def test_a_stream_goes_out_and_in_again_and_again(garden: Engine) -> None:
    first = put_away(garden)
    bring_back(garden)
    second = put_away(garden)
    assert (first.sha256, first.archive_id != second.archive_id) == (second.sha256, True)
    assert wrong(garden) == []
    bring_back(garden)
    with Session(garden) as session:
        assert len(archived_streams(session, base=Base, returned=True)) == 2


texts = st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(beds=st.lists(st.lists(texts, min_size=1, max_size=5), min_size=1, max_size=3), away=st.integers(0, 2))
def test_to_archive_and_bring_back_is_the_identity(engine: Engine, beds: list[list[str]], away: int) -> None:
    prefix = str(UUID(int=abs(hash((str(beds), away))) % 2**128))
    ids = [f"{prefix}-{number}" for number in range(len(beds))]
    for bed_id, names in zip(ids, beds, strict=True):
        with Session(engine) as session:
            if session.scalar(select(Bed.id).where(Bed.id == bed_id)) is not None:
                return  # Hypothesis has drawn it before
        with event_context(note="".join(names)):
            plant(engine, bed_id, *names)
    follow_all(engine)
    which = ids[away % len(ids)]
    with engine.connect() as connection:
        before = {each: all_rows(connection, each) for each in ids}
    counts = plants(engine)
    put_away(engine, which)
    with engine.connect() as connection:
        assert {each: all_rows(connection, each) for each in ids if each != which} == {
            each: rows for each, rows in before.items() if each != which
        }
    bring_back(engine, which)
    with engine.connect() as connection:
        assert {each: all_rows(connection, each) for each in ids} == before
    assert plants(engine) == counts


def test_in_another_cluster_it_comes_back_as_seen_by_all(postgres_engine: Engine) -> None:
    plant(postgres_engine, "b-1", "leek", "chard")
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


def test_an_open_stream_an_unknown_one_and_one_of_its_end_alone_are_refused(garden: Engine) -> None:
    plant(garden, "b-0")
    with Session(garden) as session:
        with pytest.raises(ArchiveError, match="close_stream"):
            archive(session, Bed, "b-2", reason="r")
        with pytest.raises(AggregateNotFoundError):
            archive(session, Bed, "nobody", reason="r")
        with pytest.raises(ArchiveError, match="no event but the one"):
            archive(session, Bed, "b-0", reason="r")
        with pytest.raises(ArchiveError, match="not archived"):
            unarchive(session, Bed, "b-1", reason="r")
        for function in (archive, unarchive):
            with pytest.raises(ValueError, match="for the record"):
                function(session, Bed, "b-1", reason=" ")
            with pytest.raises(TypeError, match="write a text"):
                function(session, Bed, "b-1", reason=None)  # type: ignore[arg-type]


def test_an_archived_stream_is_not_archived_again(garden: Engine) -> None:
    put_away(garden)
    with Session(garden) as session, pytest.raises(StreamArchivedError):
        archive(session, Bed, "b-1", reason="r")


def test_a_base_without_archives_says_how_to_have_them(engine: Engine) -> None:
    class Plain(DeclarativeBase):
        pass

    class Pot(AggregateRoot, Plain):
        __aggregate_type__ = "archiving.Pot"

    with Session(engine) as session:
        with pytest.raises(DeclarationError, match="archives="):
            archive(session, Pot, "p", reason="r")
        with pytest.raises(DeclarationError, match="archives="):
            archived_streams(session, base=Plain)


def test_events_that_somebody_has_yet_to_take_stay(engine: Engine) -> None:
    plant(engine, "b-1", "leek")
    follow_all(engine)
    plant(engine, "b-2", "leek")
    with Session(engine) as session:
        with pytest.raises(ArchiveError, match="archiving_heard, archiving_labels, archiving_plants has yet to take"):
            archive(session, Bed, "b-2", reason="r")
        archive(session, Bed, "b-1", reason="r")


def test_events_that_are_not_in_the_tree_yet_stay(garden: Engine) -> None:
    with garden.begin() as connection:
        connection.execute(text("DELETE FROM merkle_tree"))
    with Session(garden) as session, pytest.raises(ArchiveError, match="Merkle tree"):
        archive(session, Bed, "b-1", reason="r")


def test_parked_events_stay(garden: Engine) -> None:
    with Session(garden) as session:
        parked = Base.metadata.tables["parked_events"]
        session.execute(
            parked.insert().values(
                projection_name="archiving_plants",
                position=1,
                event_id=UUID(int=1),
                aggregate_type="archiving.Bed",
                aggregate_id="b-1",
            )
        )
        with pytest.raises(ArchiveError, match="parked for archiving_plants"):
            archive(session, Bed, "b-1", reason="r")


def test_nothing_comes_back_into_a_backlog_that_is_being_worked_off(garden: Engine) -> None:
    put_away(garden)
    with Session(garden) as session:
        session.execute(
            text("UPDATE projection_positions SET window_end = snapshot_cursor WHERE projection_name = 'archiving_heard'")
        )
        if garden.dialect.name == "sqlite":
            session.execute(text("UPDATE projection_positions SET window_end = '3:3:' WHERE projection_name = 'archiving_heard'"))
        with pytest.raises(ArchiveError, match="archiving_heard is working off a backlog"):
            unarchive(session, Bed, "b-1", reason="r")


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ("event_id", "version 1, event {id}, is stored again as version 1 of archiving.Bed 'b-9'"),
        ("position", "version 1, event {id}, has position {position}, where version 1 of archiving.Bed 'b-9' stands"),
    ],
)
def test_what_has_taken_its_place_meanwhile_is_named(garden: Engine, taken: str, said: str) -> None:
    put_away(garden)
    with garden.begin() as connection:
        first: Any = connection.execute(select(ARCHIVED).where(ARCHIVED.c.version == 1, ARCHIVED.c.aggregate_id == "b-1")).one()
        values = {**first._mapping, "event_id": uuid4(), "position": first.position + 1000, "aggregate_id": "b-9"}
        connection.execute(insert(EVENTS).values({**values, taken: getattr(first, taken)}))
    with Session(garden) as session:
        with pytest.raises(ArchiveError) as caught:
            unarchive(session, Bed, "b-1", reason="r")
        assert said.format(id=first.event_id, position=first.position) in caught.value.reason
        assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("archiving.Bed", "b-1")
        assert isinstance(caught.value.__cause__, IntegrityError)
        session.commit()
    with garden.connect() as connection:
        assert [row[4] for row in all_rows(connection, "b-1")] == ["sa_eventsource.StreamArchived"]
        assert len(connection.execute(select(ARCHIVED)).all()) == 4
    with pytest.raises(DBAPIError), garden.begin() as connection:
        connection.execute(text("DELETE FROM events"))


def test_a_dry_run_changes_nothing(garden: Engine) -> None:
    with garden.connect() as connection:
        before = all_rows(connection, "b-1")
    with Session(garden) as session:
        asked = archive(session, Bed, "b-1", reason="r", dry_run=True)
        session.commit()
        assert (asked.events, asked.last_position) == (4, 4)
        assert archived_streams(session, base=Base, returned=True) == []
    with garden.connect() as connection:
        assert all_rows(connection, "b-1") == before
    done = put_away(garden)
    assert done.sha256 == asked.sha256
    with Session(garden) as session:
        assert unarchive(session, Bed, "b-1", reason="r", dry_run=True).archive_id == done.archive_id
        session.commit()
        with pytest.raises(StreamArchivedError):
            session.get(Bed, "b-1")


def test_a_rollback_undoes_it(garden: Engine) -> None:
    with garden.connect() as connection:
        before = all_rows(connection, "b-1")
    with Session(garden) as session:
        archive(session, Bed, "b-1", reason="r")
        session.rollback()
        assert session.get_one(Bed, "b-1").version == 4
    with garden.connect() as connection:
        assert all_rows(connection, "b-1") == before


def test_a_transaction_that_sees_one_state_is_refused(postgres_engine: Engine) -> None:
    plant(postgres_engine, "b-1", "leek")
    follow_all(postgres_engine)
    one_state = postgres_engine.execution_options(isolation_level="REPEATABLE READ")
    with Session(one_state) as session, pytest.raises(ArchiveError, match="READ COMMITTED"):
        archive(session, Bed, "b-1", reason="r")


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


def test_archived_events_are_immutable_too(garden: Engine) -> None:
    put_away(garden)
    for statement in ("UPDATE archived_events SET version = 9", "DELETE FROM archived_events"):
        with garden.connect() as connection, pytest.raises(DBAPIError, match="immutable"):
            connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE archived_events SET event_data = \'{"plant": "weed"}\' WHERE version = 2',
        "UPDATE archived_events SET occurred_at = '2020-01-01 00:00:00+00:00' WHERE version = 1",
        "UPDATE archived_events SET position = 100 WHERE version = 1",
        "DELETE FROM archived_events WHERE version = 3",
    ],
    ids=["payload", "time", "position", "missing"],
)
def test_what_was_altered_is_found_and_not_brought_back(garden: Engine, statement: str) -> None:
    put_away(garden)
    altered(garden, statement)
    findings = wrong(garden)
    assert any(each.startswith("archives: archiving.Bed 'b-1'") for each in findings)
    assert any(each.startswith("proofs:") for each in findings)
    with Session(garden) as session, pytest.raises(ArchiveError, match="not what was archived"):
        unarchive(session, Bed, "b-1", reason="r")


def test_a_manifest_or_a_marker_that_is_missing_is_found(garden: Engine) -> None:
    put_away(garden)
    with garden.begin() as connection:
        connection.execute(text("DELETE FROM archives"))
    assert [each.split(": ", 2)[2][:40] for each in wrong(garden) if each.startswith("archives")] == [
        "it is marked as archived, and there is n",
        "events of it are in archived_events, and",
    ]
    with Session(garden) as session, pytest.raises(ArchiveError, match="not archived"):
        unarchive(session, Bed, "b-1", reason="r")


def test_verify_says_how_many_are_archived_and_proofs_hold(garden: Engine) -> None:
    with Session(garden) as session:
        head = newest_head(session, base=Base)
        assert head is not None
        event_id: Any = session.scalar(select(EVENTS.c.event_id).where(EVENTS.c.aggregate_id == "b-1", EVENTS.c.version == 2))
        before = prove(session, event_id, head=head, base=Base)
    put_away(garden)
    found = verify(garden, Base, proofs=ProofOptions(heads=[head]))
    assert (found.is_sound, found.findings, found.archived, found.covered) == (True, (), 1, 8)
    with Session(garden) as session:
        assert prove(session, event_id, head=head, base=Base) == before
    bring_back(garden)
    found = verify(garden, Base, proofs=ProofOptions(heads=[head]))
    assert (found.findings, found.archived) == ((), 0)


def test_the_tree_goes_on_growing_behind_an_archive(garden: Engine) -> None:
    put_away(garden)
    plant(garden, "b-8", "leek")
    follow_all(garden)
    assert wrong(garden) == []
    bring_back(garden)
    assert wrong(garden) == []


# --- async, and many at once ---


async def test_async(async_engine: AsyncEngine) -> None:
    url = async_engine.url
    engine = create_engine(url.set(drivername="sqlite") if url.drivername.startswith("sqlite") else url)
    plant(engine, "b-1", "leek")
    follow_all(engine)
    async with AsyncSession(async_engine) as session:
        done = await async_archive(session, Bed, "b-1", reason="r")
        assert await async_archived_streams(session, base=Base) == [replace(done, models_to_rebuild=())]
        with pytest.raises(StreamArchivedError):
            await session.get(Bed, "b-1", populate_existing=True)
        assert (await async_unarchive(session, Bed, "b-1", reason="r")).returned_at is not None
        assert await async_archived_streams(session, base=Base) == []
        await session.commit()
        assert (await session.get_one(Bed, "b-1")).plants == ("leek",)
    engine.dispose()


def test_of_threads_that_archive_append_and_bring_back_none_loses_an_event(postgres_engine: Engine) -> None:
    engine = create_engine(postgres_engine.url, pool_size=8)
    for bed_id in ("b-1", "b-2"):
        plant(engine, bed_id, "leek", "chard")
    follow_all(engine)
    with engine.connect() as connection:
        before = {bed_id: all_rows(connection, bed_id) for bed_id in ("b-1", "b-2")}
    start, unexpected, done = threading.Barrier(5), list[BaseException](), list[str]()

    @retry_on_conflict(attempts=20)
    def once(work: Any, bed_id: str) -> None:
        with Session(engine) as session:
            work(session, Bed, bed_id, reason="r")
            session.commit()

    def repeat(work: Any, bed_id: str) -> None:
        start.wait(timeout=30)
        for _ in range(10):
            try:
                once(work, bed_id)
                done.append(work.__name__)
            except (ArchiveError, StreamArchivedError):
                pass
            except BaseException as error:
                unexpected.append(error)

    def begin_again() -> None:
        start.wait(timeout=30)
        for _ in range(20):
            for bed_id in ("b-1", "b-2"):
                try:
                    with Session(engine) as session:
                        bed = Bed(id=bed_id)
                        bed.apply_event(Planted(plant="weed"))
                        session.add(bed)
                        session.commit()
                    unexpected.append(AssertionError("it began again"))
                except StreamClosedError:
                    pass
                except BaseException as error:
                    if not is_conflict(error):
                        unexpected.append(error)

    workers = [(archive, "b-1"), (unarchive, "b-1"), (archive, "b-2"), (unarchive, "b-1")]
    threads = [threading.Thread(target=repeat, args=each) for each in workers] + [threading.Thread(target=begin_again)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert unexpected == []
    assert "archive" in done
    for bed_id in ("b-1", "b-2"):
        with Session(engine) as session:
            if any(each.aggregate_id == bed_id for each in archived_streams(session, base=Base)):
                unarchive(session, Bed, bed_id, reason="r")
                session.commit()
    with engine.connect() as connection:
        assert {bed_id: all_rows(connection, bed_id) for bed_id in ("b-1", "b-2")} == before
    assert wrong(engine) == []
    engine.dispose()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("is_new", [False, True], ids=["goes on", "begins"])
def test_a_stream_that_an_older_transaction_may_go_on_with_stays(postgres_engine: Engine, level: str, is_new: bool) -> None:
    Base.metadata.create_all(postgres_engine)
    if not is_new:
        plant(postgres_engine, "b-9", "leek", close=False)
    with Session(postgres_engine.execution_options(isolation_level=level)) as older:
        bed = older.get(Bed, "b-9")
        assert (bed is None) is is_new
        if is_new:
            plant(postgres_engine, "b-9", "leek", close=False)
        with Session(postgres_engine) as session:
            session.get_one(Bed, "b-9").apply_event(Planted(plant="chard"))
            session.commit()
            session.get_one(Bed, "b-9").close_stream("full")
            session.commit()
        follow_all(postgres_engine)
        with Session(postgres_engine) as session, pytest.raises(ArchiveError, match="before it was closed"):
            archive(session, Bed, "b-9", reason="old")
        if bed is None:
            bed = Bed(id="b-9")
            older.add(bed)
        bed.apply_event(Planted(plant="late"))
        with pytest.raises((DBAPIError, InvalidRequestError)):
            older.commit()
    with Session(postgres_engine) as session:
        archive(session, Bed, "b-9", reason="old")
        session.commit()
        unarchive(session, Bed, "b-9", reason="needed")
        session.commit()
    assert verify(postgres_engine, Base).findings == ()


def test_what_is_closed_in_the_same_transaction_stays(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        bed = Bed(id="b-9")
        bed.apply_event(Planted(plant="leek"))
        bed.close_stream("full")
        session.add(bed)
        session.flush()
        with pytest.raises(ArchiveError, match=r"before it was closed|has yet to take"):
            archive(session, Bed, "b-9", reason="old")


def test_writers_wait_until_a_stream_is_archived(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    plant(postgres_engine, "b-9", "leek")
    follow_all(postgres_engine)
    done = threading.Event()

    def write() -> None:
        plant(postgres_engine, "b-10", "leek")
        done.set()

    with Session(postgres_engine) as session:
        archive(session, Bed, "b-9", reason="old")
        thread = threading.Thread(target=write)
        thread.start()
        with postgres_engine.connect() as connection:
            waits = text(f"SELECT count(*) {WAITING_FOR_EVENTS}")
            wait_until(lambda: bool(connection.execute(waits).scalar()))
        assert not done.is_set()
        session.commit()
    thread.join(60)
    assert done.is_set()


def test_the_ids_of_archived_events_are_taken(garden: Engine) -> None:
    with Session(garden) as session:
        event_id = EventStore(session, Base).events.of(Bed, "b-1").all()[0].event_id
    follow_all(garden)
    with Session(garden) as session:
        archive(session, Bed, "b-1", reason="old")
        session.commit()
        session.get_one(Bed, "b-2").apply_event(Planted(plant="leek"), event_id=event_id)
        with pytest.raises(EventIdConflictError) as caught:
            session.commit()
        assert caught.value.event_id == event_id
