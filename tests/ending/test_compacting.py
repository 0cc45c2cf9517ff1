"""Compacting a closed stream: its past is archived, and its last state is loaded as ever."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, event, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Session, make_transient_to_detached

from sa_eventsource import (
    AggregateNotFoundError,
    AggregateRoot,
    ArchiveError,
    DomainEvent,
    EventReplayer,
    EventSourcedRepository,
    EventSourceOptions,
    EventStore,
    ProofOptions,
    StreamArchivedError,
    StreamClosed,
    StreamClosedError,
    applies,
    archive,
    archived_streams,
    async_compact,
    compact,
    export_events,
    newest_head,
    unarchive,
    verify,
)
from sa_eventsource.aggregates import definition_of
from sa_eventsource.store import read_streams
from tests.cli.commands import fail, succeed
from tests.ending.garden import Base as Garden
from tests.ending.garden import Bed, Beds, Plants, all_rows, follow_all, plant
from tests.statement_log import record_statements
from tests.waiting import wait_until


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(archives="archives")


class Filled(DomainEvent):
    __event_type__ = "compacting.Filled"

    litres: int


class Tank(AggregateRoot, Base):
    """Changes at its end, too."""

    __aggregate_type__ = "compacting.Tank"
    __snapshot_frequency__ = 1

    litres: int = 0
    ended_with: int | None = None

    @applies(Filled)
    def _filled(self, event: Filled) -> None:
        self.litres += event.litres

    @applies(StreamClosed)
    def _ended(self, event: StreamClosed) -> None:
        self.ended_with = self.litres


class Can(AggregateRoot, Base):
    """Takes no snapshots."""

    __aggregate_type__ = "compacting.Can"

    litres: int = 0

    @applies(Filled)
    def _filled(self, event: Filled) -> None:
        self.litres += event.litres


BASE = "tests.ending.test_compacting:Base"
SNAPSHOTS = Base.metadata.tables["snapshots"]


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def fill(engine: Engine, kind: type[Any], aggregate_id: str, *litres: int, close: bool = True, ago: int = 0) -> None:
    with Session(engine) as session:
        tank = kind(id=aggregate_id)
        for each in litres:
            tank.apply_event(Filled(litres=each), occurred_at=datetime.now(UTC) - timedelta(days=ago))
        if close:
            tank.close_stream("leaks")
        session.add(tank)
        session.commit()


def compacted(engine: Engine, kind: type[Any], aggregate_id: str, **options: Any) -> Any:
    with Session(engine) as session:
        done = compact(session, kind, aggregate_id, reason="r", **options)
        session.commit()
        return done


def change_code(engine: Engine) -> None:
    """Leave snapshots as another version of the class would have written them."""
    with engine.begin() as connection:
        connection.execute(update(SNAPSHOTS).values(state_fingerprint="of other code", state={"litres": 999999}))


def wrong(engine: Engine) -> list[str]:
    return [str(each) for each in verify(engine, Base).findings]


@pytest.fixture(params=["table", "file"])
def where(request: Any, tmp_path: Path) -> dict[str, Any]:
    return {} if request.param == "table" else {"directory": tmp_path}


@pytest.fixture
def tanks(engine: Engine) -> Engine:
    fill(engine, Tank, "t-1", 3, 4)
    fill(engine, Tank, "t-2", 5, close=False)
    return engine


# --- what is there afterwards ---


def test_the_last_state_is_loaded_in_every_way(tanks: Engine, where: dict[str, Any]) -> None:
    done = compacted(tanks, Tank, "t-1", **where)
    assert (done.is_compacted, done.events) == (True, 3)
    with tanks.connect() as connection:
        assert [row[4] for row in all_rows(connection, "t-1")] == ["sa_eventsource.StreamArchived"]
    loads: list[Any] = [
        lambda session: session.get_one(Tank, "t-1"),
        lambda session: session.get_one(Tank, "t-1", populate_existing=True),
        lambda session: session.get_one(Tank, "t-1", execution_options={"tank": 1}),
        lambda session: EventSourcedRepository(session, Tank).get("t-1"),
        lambda session: EventSourcedRepository(session, Tank).load_at_version("t-1", 3),
        lambda session: session.scalars(select(Tank).where(Tank.id == "t-1")).one(),
        lambda session: session.scalars(select(Tank).order_by(Tank.id)).all()[0],
        lambda session: session.scalars(select(Tank).where(Tank.version == 3)).one(),
    ]
    for load in loads:
        with Session(tanks) as session:
            tank = load(session)
            assert (tank.id, tank.version, tank.litres, tank.ended_with) == ("t-1", 3, 7, 7)
            assert tank.is_stream_closed
    with Session(tanks) as session:
        assert session.scalar(select(func.count()).select_from(Tank)) == 2
        assert [each.is_compacted for each in archived_streams(session, base=Base)] == [True]
    found = verify(tanks, Base)
    assert (found.findings, found.archived) == ((), 1)


def test_it_is_loaded_by_one_statement(tanks: Engine, where: dict[str, Any]) -> None:
    compacted(tanks, Tank, "t-1", **where)
    with Session(tanks) as session, record_statements(tanks) as log:
        session.get_one(Tank, "t-1")
    assert len([each for each in log if each.startswith("SELECT")]) == 1


def test_nobody_appends_to_it(tanks: Engine, where: dict[str, Any]) -> None:
    with Session(tanks) as stale:
        cached = stale.get_one(Tank, "t-1")
        stale.expunge(cached)
        stale.rollback()
        compacted(tanks, Tank, "t-1", **where)
        with Session(tanks) as session:
            tank = session.get_one(Tank, "t-1")
            with pytest.raises(StreamClosedError) as caught:
                tank.apply_event(Filled(litres=1))
            assert (caught.value.version, caught.value.reason) == (3, "leaks")
            for expected in (0, 2, 3):
                with pytest.raises(StreamClosedError):
                    EventSourcedRepository(session, Tank).append("t-1", [Filled(litres=1)], expected_version=expected)
            again = Tank(id="t-1")
            again.apply_event(Filled(litres=1))
            session.expunge(tank)
            session.add(again)
            with pytest.raises(StreamClosedError):
                session.commit()


def test_a_writer_that_loaded_it_open_is_refused(tanks: Engine) -> None:
    with Session(tanks, expire_on_commit=False) as writer:
        tank = writer.get_one(Tank, "t-2")
        writer.commit()
        with Session(tanks) as session:
            session.get_one(Tank, "t-2").close_stream("full")
            session.commit()
        compacted(tanks, Tank, "t-2")
        tank.apply_event(Filled(litres=1))
        with pytest.raises(StreamClosedError):
            writer.commit()
        writer.rollback()
        assert (tank.litres, tank.is_stream_closed) == (5, True)


def test_its_past_is_archived(tanks: Engine, where: dict[str, Any]) -> None:
    compacted(tanks, Tank, "t-1", **where)
    with Session(tanks) as session:
        repository = EventSourcedRepository(session, Tank)
        loads: list[Any] = [
            lambda: repository.load_at_version("t-1", 2),
            lambda: repository.load_at_time("t-1", datetime.now(UTC)),
            lambda: repository.load_at_time("t-1", datetime.now(UTC), axis="recorded"),
            lambda: repository.load_at_time("t-1", datetime(2020, 1, 1, tzinfo=UTC)),
        ]
        for load in loads:
            with pytest.raises(StreamArchivedError, match="last state can be loaded") as caught:
                load()
            assert caught.value.is_compacted
        with pytest.raises(AggregateNotFoundError):
            repository.load_at_version("t-1", 4)
        assert {each.aggregate_id for each in EventStore(session, Base).events.all()} == {"t-2"}
    with tanks.connect() as connection:
        assert not any('"t-1"' in line for line in export_events(connection, Base.metadata.tables["events"]))


def test_it_comes_back_value_by_value(tanks: Engine, where: dict[str, Any]) -> None:
    with tanks.connect() as connection:
        before = all_rows(connection, "t-1")
    compacted(tanks, Tank, "t-1", **where)
    with Session(tanks) as session:
        unarchive(session, Tank, "t-1", reason="r")
        session.commit()
        assert session.get_one(Tank, "t-1").litres == 7
        assert session.scalars(select(SNAPSHOTS.c.aggregate_id)).all() == ["t-2"]
        assert EventSourcedRepository(session, Tank).load_at_version("t-1", 1).litres == 3
    with tanks.connect() as connection:
        after = all_rows(connection, "t-1")
    assert [(*row[:12], row[13]) for row in after] == [(*row[:12], row[13]) for row in before]
    assert compacted(tanks, Tank, "t-1", **where).is_compacted
    assert wrong(tanks) == []


# --- snapshots that are of no use ---


@pytest.mark.parametrize("lost", ["deleted", "of other code", "of another shape", "of another event"])
def test_without_a_snapshot_it_is_made_of_the_archived_events(tanks: Engine, lost: str) -> None:
    fill(tanks, Tank, "t-3", 1)
    for each in ("t-1", "t-3"):
        compacted(tanks, Tank, each)
    statements = {
        "deleted": "DELETE FROM snapshots",
        "of other code": "UPDATE snapshots SET state_fingerprint = 'x', state = '{\"litres\": 1}'",
        "of another shape": 'UPDATE snapshots SET state = \'{"litres": "?"}\'',
        "of another event": "UPDATE snapshots SET version = 2",
    }
    with tanks.begin() as connection:
        connection.execute(text(statements[lost]))
    with Session(tanks) as session:
        tank = session.get_one(Tank, "t-1")
        assert (tank.version, tank.litres, tank.ended_with, tank.is_stream_closed) == (3, 7, 7, True)
    with Session(tanks) as session:
        assert [tank.litres for tank in session.scalars(select(Tank).order_by(Tank.id))] == [7, 5, 1]
        assert EventSourcedRepository(session, Tank).load_at_version("t-1", 3).litres == 7
        with pytest.raises(StreamArchivedError):
            EventSourcedRepository(session, Tank).load_at_version("t-1", 2)
    compacted(tanks, Tank, "t-1")
    with Session(tanks) as session, record_statements(tanks) as log:
        assert session.get_one(Tank, "t-1").litres == 7
    assert len([each for each in log if each.startswith("SELECT")]) == 1


def test_of_a_file_the_state_is_kept_again_by_compacting_again(tanks: Engine, tmp_path: Path) -> None:
    done = compacted(tanks, Tank, "t-1", directory=tmp_path)
    change_code(tanks)
    assert wrong(tanks) == [
        "archives: compacting.Tank 't-1': it is compacted, and its last state cannot be loaded. Compact it again"
    ]
    loads: list[Any] = [lambda session: session.get(Tank, "t-1"), lambda session: session.scalars(select(Tank)).all()]
    for load in loads:
        with Session(tanks) as session, pytest.raises(StreamArchivedError, match=r"compact\(\)") as caught:
            load(session)
        assert (caught.value.is_compacted, caught.value.place) == (True, str(done.file))
    again = compacted(tanks, Tank, "t-1")
    assert (again.archive_id, again.place, again.is_compacted) == (done.archive_id, done.place, True)
    with Session(tanks) as session:
        assert session.get_one(Tank, "t-1").litres == 7
        assert session.scalars(select(Base.metadata.tables["archived_events"].c.event_id)).all() == []
    assert wrong(tanks) == []


def test_events_that_are_lost_in_the_archive_are_no_state(tanks: Engine) -> None:
    compacted(tanks, Tank, "t-1")
    with tanks.begin() as connection:
        connection.execute(text("DELETE FROM snapshots"))
        if tanks.dialect.name == "sqlite":
            connection.execute(text("DROP TABLE archived_events"))
            Base.metadata.tables["archived_events"].create(connection)
        else:
            connection.execute(text("ALTER TABLE archived_events DISABLE TRIGGER USER"))
            connection.execute(text("DELETE FROM archived_events WHERE version = 3"))
            connection.execute(text("ALTER TABLE archived_events ENABLE TRIGGER USER"))
    with Session(tanks) as session:
        with pytest.raises(StreamArchivedError):
            session.get(Tank, "t-1")
        with pytest.raises(ArchiveError, match="not what was archived"):
            compact(session, Tank, "t-1", reason="r")


def test_of_streams_that_are_read_together_the_error_names_the_one_that_is_not_kept(engine: Engine) -> None:
    fill(engine, Can, "c-1", 2)
    fill(engine, Can, "c-2", 3)
    compacted(engine, Can, "c-1")
    with Session(engine) as session:
        archive(session, Can, "c-2", reason="r")
        session.commit()
    with engine.connect() as connection, pytest.raises(StreamArchivedError) as caught:
        list(read_streams(connection, definition_of(Can), ["c-1", "c-2"]))
    assert (caught.value.aggregate_id, caught.value.is_compacted) == ("c-2", False)


def test_a_class_without_snapshots_is_compacted_into_the_table_alone(engine: Engine, tmp_path: Path) -> None:
    fill(engine, Can, "c-1", 2, 3)
    with pytest.raises(ArchiveError, match="takes no snapshots; set __snapshot_frequency__"):
        compacted(engine, Can, "c-1", directory=tmp_path)
    assert list(tmp_path.glob("*.parquet*")) == []
    compacted(engine, Can, "c-1")
    with Session(engine) as session:
        can = session.get_one(Can, "c-1")
        assert (can.litres, can.version, can.is_stream_closed) == (5, 3, True)
        assert [each.litres for each in session.scalars(select(Can))] == [5]
    assert wrong(engine) == []


# --- again, and of what is archived ---


def test_what_is_archived_is_compacted_where_it_is(tanks: Engine, where: dict[str, Any], tmp_path: Path) -> None:
    with Session(tanks) as session:
        done = archive(session, Tank, "t-1", reason="first", **where)
        session.commit()
        assert not done.is_compacted
        assert session.scalars(select(Tank.id)).all() == ["t-2"]
    asked = compacted(tanks, Tank, "t-1", dry_run=True)
    assert asked.is_compacted
    with Session(tanks) as session, pytest.raises(StreamArchivedError, match="Bring it back"):
        session.get(Tank, "t-1")
    for _ in range(2):
        again = compacted(tanks, Tank, "t-1", **where)
        assert (again.archive_id, again.place, again.reason, again.is_compacted) == (done.archive_id, done.place, "first", True)
        with Session(tanks) as session:
            assert session.get_one(Tank, "t-1").litres == 7
            assert session.scalars(select(Tank.id).order_by(Tank.id)).all() == ["t-1", "t-2"]
    other = tmp_path / "elsewhere"
    other.mkdir()
    with pytest.raises(ArchiveError, match=r"already, and stay there"):
        compacted(tanks, Tank, "t-1", directory=other)
    with Session(tanks) as session, pytest.raises(StreamArchivedError):
        archive(session, Tank, "t-1", reason="r")
    assert wrong(tanks) == []


def test_what_cannot_be_compacted_says_why(tanks: Engine) -> None:
    with Session(tanks) as session:
        with pytest.raises(ArchiveError, match="it is open"):
            compact(session, Tank, "t-2", reason="r")
        with pytest.raises(AggregateNotFoundError):
            compact(session, Tank, "t-9", reason="r")
        with pytest.raises(ValueError, match="for the record"):
            compact(session, Tank, "t-1", reason="")


def test_events_that_cannot_be_replayed_stay(tanks: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tanks, Can, "c-1", 2)
    handlers: Any = Can.__aggregate_definition__.handlers
    monkeypatch.setitem(handlers._found, Filled, lambda *_: 1 / 0)
    with Session(tanks) as session, pytest.raises(ArchiveError, match="cannot be replayed: division by zero"):
        compact(session, Can, "c-1", reason="r")
    with Session(tanks) as session:
        assert archived_streams(session, base=Base) == []


def test_a_dry_run_changes_nothing(tanks: Engine, where: dict[str, Any]) -> None:
    with tanks.connect() as connection:
        before = all_rows(connection, "t-1")
    assert compacted(tanks, Tank, "t-1", dry_run=True, **where).is_compacted
    with tanks.connect() as connection:
        assert all_rows(connection, "t-1") == before
        assert {row.aggregate_id: row.version for row in connection.execute(select(SNAPSHOTS))} == {"t-2": 1}


# --- SQLAlchemy ---


def test_an_instance_in_the_session_is_the_same_before_and_after(tanks: Engine) -> None:
    with Session(tanks) as session:
        tank = session.get_one(Tank, "t-1")
        compact(session, Tank, "t-1", reason="r")
        assert (tank.litres, tank.is_stream_closed) == (7, True)
        assert session.get(Tank, "t-1") is tank
        session.refresh(tank)
        session.expire(tank)
        assert tank.ended_with == 7
        assert session.scalars(select(Tank).execution_options(populate_existing=True)).all()[0] is tank
        session.commit()
        assert tank.litres == 7
        session.expunge(tank)
    with Session(tanks) as session:
        merged = session.merge(tank)
        assert (merged.litres, merged.is_stream_closed, session.is_modified(merged)) == (7, True, False)
        detached = Tank.__new__(Tank)
        session.expunge_all()
        detached = Tank(id="t-1")
        make_transient_to_detached(detached)
        session.add(detached)
        assert (detached.version, detached.litres) == (3, 7)
        assert session.scalars(select(Tank).where(Tank.id == "t-1")).one() is detached


@pytest.mark.parametrize("before", [True, False])
def test_a_savepoint_takes_it_back(tanks: Engine, before: bool) -> None:
    with Session(tanks) as session:
        tank = session.get_one(Tank, "t-1") if before else None
        savepoint = session.begin_nested()
        compact(session, Tank, "t-1", reason="r")
        assert session.get_one(Tank, "t-1").litres == 7
        savepoint.rollback()
        assert tank is None or tank.litres == 7
        assert EventSourcedRepository(session, Tank).load_at_version("t-1", 1).litres == 3
        with session.begin_nested():
            compact(session, Tank, "t-1", reason="r")
        session.commit()
        assert session.get_one(Tank, "t-1").litres == 7
        with pytest.raises(StreamArchivedError):
            EventSourcedRepository(session, Tank).load_at_version("t-1", 1)


def test_a_session_that_somebody_listens_to_loads_it(tanks: Engine) -> None:
    compacted(tanks, Tank, "t-1")
    loaded = []
    with Session(tanks) as session:
        event.listen(session, "do_orm_execute", lambda _: None)
        event.listen(session, "loaded_as_persistent", lambda _, instance: loaded.append(instance.litres))
        assert session.get_one(Tank, "t-1").litres == 7
    assert loaded == [7]


async def test_async(async_engine: AsyncEngine) -> None:
    url = async_engine.url
    engine = create_engine(url.set(drivername="sqlite") if url.drivername.startswith("sqlite") else url)
    fill(engine, Tank, "t-1", 3)
    async with AsyncSession(async_engine) as session:
        assert (await async_compact(session, Tank, "t-1", reason="r")).is_compacted
        await session.commit()
        assert (await session.get_one(Tank, "t-1")).litres == 3
        assert [each.litres for each in await session.scalars(select(Tank))] == [3]
    engine.dispose()


# --- proofs, read models, followers ---


def test_read_models_and_proofs_are_as_for_any_archive(engine: Engine) -> None:
    Garden.metadata.create_all(engine)
    plant(engine, "b-1", "leek", "chard")
    plant(engine, "b-2", "leek")
    follow_all(engine)
    with Session(engine) as session:
        head = newest_head(session, base=Garden)
        assert head is not None
        compact(session, Bed, "b-1", reason="r")
        session.commit()
        assert session.get_one(Bed, "b-1").plants == ("leek", "chard")
        assert session.get(Beds, "b-1") is None
        session.rollback()
        EventReplayer(engine, Garden).rebuild(Plants)
        assert {row.plant: row.times for row in session.scalars(select(Plants))} == {"leek": 1}
    found = verify(engine, Garden, proofs=ProofOptions(heads=[head]))
    assert (found.findings, found.archived, found.snapshots) == ((), 1, 1)


def test_a_snapshot_that_says_something_else_than_the_archive_is_found(tanks: Engine) -> None:
    compacted(tanks, Tank, "t-1")
    with tanks.begin() as connection:
        row = connection.execute(select(SNAPSHOTS.c.state).where(SNAPSHOTS.c.aggregate_id == "t-1")).one()
        connection.execute(update(SNAPSHOTS).where(SNAPSHOTS.c.aggregate_id == "t-1").values(state={**row.state, "litres": 70}))
    (found,) = wrong(tanks)
    assert "litres is 70 in the snapshot of version 3, and the events make it 7" in found


def test_a_snapshot_of_a_stream_that_is_archived_alone_is_found(tanks: Engine) -> None:
    compacted(tanks, Tank, "t-1")
    with tanks.begin() as connection:
        connection.execute(update(Base.metadata.tables["archives"]).values(is_compacted=False))
    assert wrong(tanks) == [
        "snapshots: compacting.Tank 't-1': it is archived, and not compacted, and would be loaded from it. Delete it."
    ]


def test_a_last_state_of_a_file_that_cannot_be_read_is_found(tanks: Engine, tmp_path: Path) -> None:
    compacted(tanks, Tank, "t-1", directory=tmp_path)
    with tanks.begin() as connection:
        connection.execute(update(SNAPSHOTS).where(SNAPSHOTS.c.aggregate_id == "t-1").values(state={"litres": "?"}))
    assert wrong(tanks) == ["snapshots: compacting.Tank 't-1': it does not fit the class. It is not used. Delete it."]


def test_a_class_that_takes_no_snapshots_any_more_has_no_last_state_of_a_file(
    tanks: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compacted(tanks, Tank, "t-1", directory=tmp_path)
    monkeypatch.setattr(definition_of(Tank), "snapshot_frequency", None)
    with Session(tanks) as session, pytest.raises(StreamArchivedError):
        session.get(Tank, "t-1")
    assert wrong(tanks) == [
        "archives: compacting.Tank 't-1': it is compacted, and its last state cannot be loaded. Compact it again"
    ]


# --- at once ---


def compacts(session: Session, kind: Any, tank_id: str) -> bool:
    """Compact it, unless a reader is taken for one that may see it open: a transaction of any database keeps snapshots back."""
    try:
        compact(session, kind, tank_id, reason="r")
    except ArchiveError as error:
        session.rollback()
        if "before it was closed" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("kind", [Tank, Can], ids=["from its snapshot", "from its events"])
def test_readers_see_the_same_state_while_it_is_compacted_and_brought_back(postgres_engine: Engine, kind: Any) -> None:
    engine = create_engine(postgres_engine.url, pool_size=6)
    fill(engine, kind, "t-1", 3, 4)
    fill(engine, kind, "t-2", 5)
    over, unexpected, reads = threading.Event(), list[BaseException](), [0]

    def read() -> None:
        while not over.is_set():
            try:
                with Session(engine) as session:
                    tank = session.get_one(kind, "t-1")
                    assert (tank.litres, tank.version, tank.is_stream_closed) == (7, 3, True)
                    assert sorted(each.litres for each in session.scalars(select(kind))) == [5, 7]
                reads[0] += 1
            except BaseException as error:
                unexpected.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(15):
            with Session(engine) as session:
                wait_until(lambda: compacts(session, kind, "t-1"))
                session.commit()
                unarchive(session, kind, "t-1", reason="r")
                session.commit()
    finally:
        over.set()
        for reader in readers:
            reader.join(60)
    assert unexpected == []
    assert reads[0] > 0
    assert wrong(engine) == []
    engine.dispose()


# --- the command line ---


def test_the_command_line_compacts(tanks: Engine, tmp_path: Path) -> None:
    fill(tanks, Tank, "t-3", 1)
    command = ("compact", BASE, "compacting.Tank")
    said = succeed(*command, "t-1", "t-3", "--reason", "r", "--dry-run", engine=tanks)
    assert "2 streams would be compacted" in said.stderr
    said = succeed(*command, "t-1", "--reason", "delivered", "--user", "ann", "--json", engine=tanks)
    assert "1 stream compacted" in said.stderr
    line = json.loads(said.stdout)
    assert (line["aggregate_id"], line["is_compacted"], line["reason"], line["metadata"]) == (
        "t-1",
        True,
        "delivered",
        {"user": "ann"},
    )
    succeed(*command, "t-3", "--reason", "r", "--directory", str(tmp_path), engine=tanks)
    assert ", last state kept: delivered" in succeed("archived", BASE, engine=tanks).stdout
    assert "it is open" in fail(*command, "t-2", "--reason", "r", engine=tanks, status=1)
