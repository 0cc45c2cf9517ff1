"""Compacting a closed stream: its past is archived, and its last state is loaded as ever."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, event, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Session, make_transient_to_detached

from sa_eventsource import (
    AggregateNotFoundError,
    ArchiveError,
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
from tests.bank import AnyAccount, Deposited
from tests.cli.commands import fail, succeed
from tests.ending.tills import Base as Shop
from tests.ending.tills import Goods, Till, Tills, all_rows, follow_all, sell
from tests.statement_log import record_statements
from tests.waiting import wait_until


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(archives="archives")


class Account(AnyAccount, Base):
    """Changes at its end, too."""

    __aggregate_type__ = "compacting.Account"
    __snapshot_frequency__ = 1

    ended_with: int | None = None

    @applies(StreamClosed)
    def _ended(self, event: StreamClosed) -> None:
        self.ended_with = self.balance


class PlainAccount(AnyAccount, Base):
    """Takes no snapshots."""

    __aggregate_type__ = "compacting.PlainAccount"


BASE = "tests.ending.test_compacting:Base"
SNAPSHOTS = Base.metadata.tables["snapshots"]


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def pay_in(engine: Engine, kind: type[AnyAccount], account_id: str, *amounts: int, close: bool = True) -> None:
    with Session(engine) as session:
        account = kind(id=account_id)
        for each in amounts:
            account.deposit(each)
        if close:
            account.close_stream("moved away")
        session.add(account)
        session.commit()


def compacted(engine: Engine, kind: type[Any], aggregate_id: str, **options: Any) -> Any:
    with Session(engine) as session:
        done = compact(session, kind, aggregate_id, reason="r", **options)
        session.commit()
        return done


def change_code(engine: Engine) -> None:
    """Leave snapshots as another version of the class would have written them."""
    with engine.begin() as connection:
        connection.execute(update(SNAPSHOTS).values(state_fingerprint="of other code", state={"balance": 999999}))


def wrong(engine: Engine) -> list[str]:
    return [str(each) for each in verify(engine, Base).findings]


@pytest.fixture(params=["table", "file"])
def where(request: Any, tmp_path: Path) -> dict[str, Any]:
    return {} if request.param == "table" else {"directory": tmp_path}


@pytest.fixture
def accounts(engine: Engine) -> Engine:
    pay_in(engine, Account, "a-1", 3, 4)
    pay_in(engine, Account, "a-2", 5, close=False)
    return engine


# --- what is there afterwards ---


def test_the_last_state_is_loaded_in_every_way(accounts: Engine, where: dict[str, Any]) -> None:
    done = compacted(accounts, Account, "a-1", **where)
    assert (done.is_compacted, done.events) == (True, 3)
    with accounts.connect() as connection:
        assert [row[4] for row in all_rows(connection, "a-1")] == ["sa_eventsource.StreamArchived"]
    loads: list[Any] = [
        lambda session: session.get_one(Account, "a-1"),
        lambda session: session.get_one(Account, "a-1", populate_existing=True),
        lambda session: session.get_one(Account, "a-1", execution_options={"account": 1}),
        lambda session: EventSourcedRepository(session, Account).get("a-1"),
        lambda session: EventSourcedRepository(session, Account).load_at_version("a-1", 3),
        lambda session: session.scalars(select(Account).where(Account.id == "a-1")).one(),
        lambda session: session.scalars(select(Account).order_by(Account.id)).all()[0],
        lambda session: session.scalars(select(Account).where(Account.version == 3)).one(),
    ]
    for load in loads:
        with Session(accounts) as session:
            account = load(session)
            assert (account.id, account.version, account.balance, account.ended_with) == ("a-1", 3, 7, 7)
            assert account.is_stream_closed
    with Session(accounts) as session:
        assert session.scalar(select(func.count()).select_from(Account)) == 2
        assert [each.is_compacted for each in archived_streams(session, base=Base)] == [True]
    found = verify(accounts, Base)
    assert (found.findings, found.archived) == ((), 1)


def test_it_is_loaded_by_one_statement(accounts: Engine, where: dict[str, Any]) -> None:
    compacted(accounts, Account, "a-1", **where)
    with Session(accounts) as session, record_statements(accounts) as log:
        session.get_one(Account, "a-1")
    assert len([each for each in log if each.startswith("SELECT")]) == 1


def test_nobody_appends_to_it(accounts: Engine, where: dict[str, Any]) -> None:
    with Session(accounts) as stale:
        cached = stale.get_one(Account, "a-1")
        stale.expunge(cached)
        stale.rollback()
        compacted(accounts, Account, "a-1", **where)
        with Session(accounts) as session:
            account = session.get_one(Account, "a-1")
            with pytest.raises(StreamClosedError) as caught:
                account.apply_event(Deposited(amount=1))
            assert (caught.value.version, caught.value.reason) == (3, "moved away")
            for expected in (0, 2, 3):
                with pytest.raises(StreamClosedError):
                    EventSourcedRepository(session, Account).append("a-1", [Deposited(amount=1)], expected_version=expected)
            again = Account(id="a-1")
            again.apply_event(Deposited(amount=1))
            session.expunge(account)
            session.add(again)
            with pytest.raises(StreamClosedError):
                session.commit()


def test_a_writer_that_loaded_it_open_is_refused(accounts: Engine) -> None:
    with Session(accounts, expire_on_commit=False) as writer:
        account = writer.get_one(Account, "a-2")
        writer.commit()
        with Session(accounts) as session:
            session.get_one(Account, "a-2").close_stream("empty")
            session.commit()
        compacted(accounts, Account, "a-2")
        account.apply_event(Deposited(amount=1))
        with pytest.raises(StreamClosedError):
            writer.commit()
        writer.rollback()
        assert (account.balance, account.is_stream_closed) == (5, True)


def test_its_past_is_archived(accounts: Engine, where: dict[str, Any]) -> None:
    compacted(accounts, Account, "a-1", **where)
    with Session(accounts) as session:
        repository = EventSourcedRepository(session, Account)
        loads: list[Any] = [
            lambda: repository.load_at_version("a-1", 2),
            lambda: repository.load_at_time("a-1", datetime.now(UTC)),
            lambda: repository.load_at_time("a-1", datetime.now(UTC), axis="recorded"),
            lambda: repository.load_at_time("a-1", datetime(2020, 1, 1, tzinfo=UTC)),
        ]
        for load in loads:
            with pytest.raises(StreamArchivedError, match="last state can be loaded") as caught:
                load()
            assert caught.value.is_compacted
        with pytest.raises(AggregateNotFoundError):
            repository.load_at_version("a-1", 4)
        assert {each.aggregate_id for each in EventStore(session, Base).events.all()} == {"a-2"}
    with accounts.connect() as connection:
        assert not any('"a-1"' in line for line in export_events(connection, Base.metadata.tables["events"]))


def test_it_comes_back_value_by_value(accounts: Engine, where: dict[str, Any]) -> None:
    with accounts.connect() as connection:
        before = all_rows(connection, "a-1")
    compacted(accounts, Account, "a-1", **where)
    with Session(accounts) as session:
        unarchive(session, Account, "a-1", reason="r")
        session.commit()
        assert session.get_one(Account, "a-1").balance == 7
        assert session.scalars(select(SNAPSHOTS.c.aggregate_id)).all() == ["a-2"]
        assert EventSourcedRepository(session, Account).load_at_version("a-1", 1).balance == 3
    with accounts.connect() as connection:
        after = all_rows(connection, "a-1")
    assert [(*row[:12], row[13]) for row in after] == [(*row[:12], row[13]) for row in before]
    assert compacted(accounts, Account, "a-1", **where).is_compacted
    assert wrong(accounts) == []


# --- snapshots that are of no use ---


@pytest.mark.parametrize("lost", ["deleted", "of other code", "of another shape", "of another event"])
def test_without_a_snapshot_it_is_made_of_the_archived_events(accounts: Engine, lost: str) -> None:
    pay_in(accounts, Account, "a-3", 1)
    for each in ("a-1", "a-3"):
        compacted(accounts, Account, each)
    statements = {
        "deleted": "DELETE FROM snapshots",
        "of other code": "UPDATE snapshots SET state_fingerprint = 'x', state = '{\"balance\": 1}'",
        "of another shape": 'UPDATE snapshots SET state = \'{"balance": "?"}\'',
        "of another event": "UPDATE snapshots SET version = 2",
    }
    with accounts.begin() as connection:
        connection.execute(text(statements[lost]))
    with Session(accounts) as session:
        account = session.get_one(Account, "a-1")
        assert (account.version, account.balance, account.ended_with, account.is_stream_closed) == (3, 7, 7, True)
    with Session(accounts) as session:
        assert [account.balance for account in session.scalars(select(Account).order_by(Account.id))] == [7, 5, 1]
        assert EventSourcedRepository(session, Account).load_at_version("a-1", 3).balance == 7
        with pytest.raises(StreamArchivedError):
            EventSourcedRepository(session, Account).load_at_version("a-1", 2)
    compacted(accounts, Account, "a-1")
    with Session(accounts) as session, record_statements(accounts) as log:
        assert session.get_one(Account, "a-1").balance == 7
    assert len([each for each in log if each.startswith("SELECT")]) == 1


def test_of_a_file_the_state_is_kept_again_by_compacting_again(accounts: Engine, tmp_path: Path) -> None:
    done = compacted(accounts, Account, "a-1", directory=tmp_path)
    change_code(accounts)
    assert wrong(accounts) == [
        "archives: compacting.Account 'a-1': it is compacted, and its last state cannot be loaded. Compact it again"
    ]
    loads: list[Any] = [lambda session: session.get(Account, "a-1"), lambda session: session.scalars(select(Account)).all()]
    for load in loads:
        with Session(accounts) as session, pytest.raises(StreamArchivedError, match=r"compact\(\)") as caught:
            load(session)
        assert (caught.value.is_compacted, caught.value.place) == (True, str(done.file))
    again = compacted(accounts, Account, "a-1")
    assert (again.archive_id, again.place, again.is_compacted) == (done.archive_id, done.place, True)
    with Session(accounts) as session:
        assert session.get_one(Account, "a-1").balance == 7
        assert session.scalars(select(Base.metadata.tables["archived_events"].c.event_id)).all() == []
    assert wrong(accounts) == []


def test_events_that_are_lost_in_the_archive_are_no_state(accounts: Engine) -> None:
    compacted(accounts, Account, "a-1")
    with accounts.begin() as connection:
        connection.execute(text("DELETE FROM snapshots"))
        if accounts.dialect.name == "sqlite":
            connection.execute(text("DROP TABLE archived_events"))
            Base.metadata.tables["archived_events"].create(connection)
        else:
            connection.execute(text("ALTER TABLE archived_events DISABLE TRIGGER USER"))
            connection.execute(text("DELETE FROM archived_events WHERE version = 3"))
            connection.execute(text("ALTER TABLE archived_events ENABLE TRIGGER USER"))
    with Session(accounts) as session:
        with pytest.raises(StreamArchivedError):
            session.get(Account, "a-1")
        with pytest.raises(ArchiveError, match="not what was archived"):
            compact(session, Account, "a-1", reason="r")


def test_of_streams_that_are_read_together_the_error_names_the_one_that_is_not_kept(engine: Engine) -> None:
    pay_in(engine, PlainAccount, "p-1", 2)
    pay_in(engine, PlainAccount, "p-2", 3)
    compacted(engine, PlainAccount, "p-1")
    with Session(engine) as session:
        archive(session, PlainAccount, "p-2", reason="r")
        session.commit()
    with engine.connect() as connection, pytest.raises(StreamArchivedError) as caught:
        list(read_streams(connection, definition_of(PlainAccount), ["p-1", "p-2"]))
    assert (caught.value.aggregate_id, caught.value.is_compacted) == ("p-2", False)


def test_a_class_without_snapshots_is_compacted_into_the_table_alone(engine: Engine, tmp_path: Path) -> None:
    pay_in(engine, PlainAccount, "p-1", 2, 3)
    with pytest.raises(ArchiveError, match="takes no snapshots; set __snapshot_frequency__"):
        compacted(engine, PlainAccount, "p-1", directory=tmp_path)
    assert list(tmp_path.glob("*.parquet*")) == []
    compacted(engine, PlainAccount, "p-1")
    with Session(engine) as session:
        account = session.get_one(PlainAccount, "p-1")
        assert (account.balance, account.version, account.is_stream_closed) == (5, 3, True)
        assert [each.balance for each in session.scalars(select(PlainAccount))] == [5]
    assert wrong(engine) == []


# --- again, and of what is archived ---


def test_what_is_archived_is_compacted_where_it_is(accounts: Engine, where: dict[str, Any], tmp_path: Path) -> None:
    with Session(accounts) as session:
        done = archive(session, Account, "a-1", reason="first", **where)
        session.commit()
        assert not done.is_compacted
        assert session.scalars(select(Account.id)).all() == ["a-2"]
    asked = compacted(accounts, Account, "a-1", dry_run=True)
    assert asked.is_compacted
    with Session(accounts) as session, pytest.raises(StreamArchivedError, match="Bring it back"):
        session.get(Account, "a-1")
    for _ in range(2):
        again = compacted(accounts, Account, "a-1", **where)
        assert (again.archive_id, again.place, again.reason, again.is_compacted) == (done.archive_id, done.place, "first", True)
        with Session(accounts) as session:
            assert session.get_one(Account, "a-1").balance == 7
            assert session.scalars(select(Account.id).order_by(Account.id)).all() == ["a-1", "a-2"]
    other = tmp_path / "elsewhere"
    other.mkdir()
    with pytest.raises(ArchiveError, match=r"already, and stay there"):
        compacted(accounts, Account, "a-1", directory=other)
    with Session(accounts) as session, pytest.raises(StreamArchivedError):
        archive(session, Account, "a-1", reason="r")
    assert wrong(accounts) == []


def test_what_cannot_be_compacted_says_why(accounts: Engine) -> None:
    with Session(accounts) as session:
        with pytest.raises(ArchiveError, match="it is open"):
            compact(session, Account, "a-2", reason="r")
        with pytest.raises(AggregateNotFoundError):
            compact(session, Account, "a-9", reason="r")
        with pytest.raises(ValueError, match="for the record"):
            compact(session, Account, "a-1", reason="")


def test_events_that_cannot_be_replayed_stay(accounts: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pay_in(accounts, PlainAccount, "p-1", 2)
    handlers: Any = PlainAccount.__aggregate_definition__.handlers
    monkeypatch.setitem(handlers._found, Deposited, lambda *_: 1 / 0)
    with Session(accounts) as session, pytest.raises(ArchiveError, match="cannot be replayed: division by zero"):
        compact(session, PlainAccount, "p-1", reason="r")
    with Session(accounts) as session:
        assert archived_streams(session, base=Base) == []


def test_a_dry_run_changes_nothing(accounts: Engine, where: dict[str, Any]) -> None:
    with accounts.connect() as connection:
        before = all_rows(connection, "a-1")
    assert compacted(accounts, Account, "a-1", dry_run=True, **where).is_compacted
    with accounts.connect() as connection:
        assert all_rows(connection, "a-1") == before
        assert {row.aggregate_id: row.version for row in connection.execute(select(SNAPSHOTS))} == {"a-2": 1}


# --- SQLAlchemy ---


def test_an_instance_in_the_session_is_the_same_before_and_after(accounts: Engine) -> None:
    with Session(accounts) as session:
        account = session.get_one(Account, "a-1")
        compact(session, Account, "a-1", reason="r")
        assert (account.balance, account.is_stream_closed) == (7, True)
        assert session.get(Account, "a-1") is account
        session.refresh(account)
        session.expire(account)
        assert account.ended_with == 7
        assert session.scalars(select(Account).execution_options(populate_existing=True)).all()[0] is account
        session.commit()
        assert account.balance == 7
        session.expunge(account)
    with Session(accounts) as session:
        merged = session.merge(account)
        assert (merged.balance, merged.is_stream_closed, session.is_modified(merged)) == (7, True, False)
        detached = Account.__new__(Account)
        session.expunge_all()
        detached = Account(id="a-1")
        make_transient_to_detached(detached)
        session.add(detached)
        assert (detached.version, detached.balance) == (3, 7)
        assert session.scalars(select(Account).where(Account.id == "a-1")).one() is detached


@pytest.mark.parametrize("before", [True, False])
def test_a_savepoint_takes_it_back(accounts: Engine, before: bool) -> None:
    with Session(accounts) as session:
        account = session.get_one(Account, "a-1") if before else None
        savepoint = session.begin_nested()
        compact(session, Account, "a-1", reason="r")
        assert session.get_one(Account, "a-1").balance == 7
        savepoint.rollback()
        assert account is None or account.balance == 7
        assert EventSourcedRepository(session, Account).load_at_version("a-1", 1).balance == 3
        with session.begin_nested():
            compact(session, Account, "a-1", reason="r")
        session.commit()
        assert session.get_one(Account, "a-1").balance == 7
        with pytest.raises(StreamArchivedError):
            EventSourcedRepository(session, Account).load_at_version("a-1", 1)


def test_a_session_that_somebody_listens_to_loads_it(accounts: Engine) -> None:
    compacted(accounts, Account, "a-1")
    loaded = []
    with Session(accounts) as session:
        event.listen(session, "do_orm_execute", lambda _: None)
        event.listen(session, "loaded_as_persistent", lambda _, instance: loaded.append(instance.balance))
        assert session.get_one(Account, "a-1").balance == 7
    assert loaded == [7]


async def test_async(async_engine: AsyncEngine) -> None:
    url = async_engine.url
    engine = create_engine(url.set(drivername="sqlite") if url.drivername.startswith("sqlite") else url)
    pay_in(engine, Account, "a-1", 3)
    async with AsyncSession(async_engine) as session:
        assert (await async_compact(session, Account, "a-1", reason="r")).is_compacted
        await session.commit()
        assert (await session.get_one(Account, "a-1")).balance == 3
        assert [each.balance for each in await session.scalars(select(Account))] == [3]
    engine.dispose()


# --- proofs, read models, followers ---


def test_read_models_and_proofs_are_as_for_any_archive(engine: Engine) -> None:
    Shop.metadata.create_all(engine)
    sell(engine, "t-1", "pen", "ink")
    sell(engine, "t-2", "pen")
    follow_all(engine)
    with Session(engine) as session:
        head = newest_head(session, base=Shop)
        assert head is not None
        compact(session, Till, "t-1", reason="r")
        session.commit()
        assert session.get_one(Till, "t-1").sold == ("pen", "ink")
        assert session.get(Tills, "t-1") is None
        session.rollback()
        EventReplayer(engine, Shop).rebuild(Goods)
        assert {row.what: row.times for row in session.scalars(select(Goods))} == {"pen": 1}
    found = verify(engine, Shop, proofs=ProofOptions(heads=[head]))
    assert (found.findings, found.archived, found.snapshots) == ((), 1, 1)


def forge(engine: Engine) -> None:
    """Write another state into the snapshot, as whoever may write snapshots can."""
    with engine.begin() as connection:
        row = connection.execute(select(SNAPSHOTS.c.state).where(SNAPSHOTS.c.aggregate_id == "a-1")).one()
        connection.execute(update(SNAPSHOTS).where(SNAPSHOTS.c.aggregate_id == "a-1").values(state={**row.state, "balance": 70}))


def test_a_snapshot_that_says_something_else_than_the_archive_is_found(accounts: Engine, where: dict[str, Any]) -> None:
    compacted(accounts, Account, "a-1", **where)
    assert verify(accounts, Base).snapshots == 2
    forge(accounts)
    (found,) = wrong(accounts)
    assert "balance is 70 in the snapshot of version 3, and the events make it 7" in found
    assert ("Compact it again." if where else "Delete it.") in found
    assert not verify(accounts, Base).is_sound
    compacted(accounts, Account, "a-1")
    assert wrong(accounts) == []
    with Session(accounts) as session:
        assert session.get_one(Account, "a-1").balance == 7


def test_a_file_that_is_not_what_was_archived_says_nothing_about_the_last_state(accounts: Engine, tmp_path: Path) -> None:
    done = compacted(accounts, Account, "a-1", directory=tmp_path)
    moved = tmp_path / "moved"
    done.file.rename(moved)
    not_there = f"its file {done.file} is not there. Mount its directory, or restore it from a backup"
    found = verify(accounts, Base)
    assert [str(each) for each in found.findings] == [
        f"archives: compacting.Account 'a-1': {not_there}",
        f"snapshots: compacting.Account 'a-1': its last state was not compared with its events: {not_there}",
    ]
    assert ([each.is_warning for each in found.findings], found.snapshots) == ([False, True], 1)
    pay_in(accounts, Account, "a-3", 1)
    compacted(accounts, Account, "a-3", directory=tmp_path).file.replace(done.file)
    others = f"its file {done.file} has other events than were archived. Restore it from a backup"
    assert [each.split(": ", 2)[2] for each in wrong(accounts) if "'a-1'" in each] == [
        others,
        f"its last state was not compared with its events: {others}",
    ]
    moved.replace(done.file)
    assert not [each for each in wrong(accounts) if "'a-1'" in each]


def test_without_pyarrow_a_last_state_is_not_compared_with_a_file(
    accounts: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compacted(accounts, Account, "a-1", directory=tmp_path)
    for name in [each for each in sys.modules if each.startswith(("pyarrow", "sa_eventsource.transfer.parquet"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    of_archive, of_snapshot = verify(accounts, Base).findings
    assert (of_archive.is_warning, of_snapshot.is_warning) == (False, True)
    assert f"its last state was not compared with its events: its file {done.file} cannot be checked here. " in str(of_snapshot)


def test_a_snapshot_of_a_stream_that_is_archived_alone_is_found(accounts: Engine) -> None:
    compacted(accounts, Account, "a-1")
    with accounts.begin() as connection:
        connection.execute(update(Base.metadata.tables["archives"]).values(is_compacted=False))
    assert wrong(accounts) == [
        "snapshots: compacting.Account 'a-1': it is archived, and not compacted, and would be loaded from it. Delete it."
    ]


def test_a_last_state_of_a_file_that_cannot_be_read_is_found(accounts: Engine, tmp_path: Path) -> None:
    compacted(accounts, Account, "a-1", directory=tmp_path)
    with accounts.begin() as connection:
        connection.execute(update(SNAPSHOTS).where(SNAPSHOTS.c.aggregate_id == "a-1").values(state={"balance": "?"}))
    assert wrong(accounts) == ["snapshots: compacting.Account 'a-1': it does not fit the class. It is not used. Delete it."]


def test_a_class_that_takes_no_snapshots_any_more_has_no_last_state_of_a_file(
    accounts: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compacted(accounts, Account, "a-1", directory=tmp_path)
    monkeypatch.setattr(definition_of(Account), "snapshot_frequency", None)
    with Session(accounts) as session, pytest.raises(StreamArchivedError):
        session.get(Account, "a-1")
    assert wrong(accounts) == [
        "archives: compacting.Account 'a-1': it is compacted, and its last state cannot be loaded. Compact it again"
    ]


# --- at once ---


def compacts(session: Session, kind: Any, account_id: str) -> bool:
    """Compact it, unless a reader is taken for one that may see it open: a transaction of any database keeps snapshots back."""
    try:
        compact(session, kind, account_id, reason="r")
    except ArchiveError as error:
        session.rollback()
        if "before it was closed" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("kind", [Account, PlainAccount], ids=["from its snapshot", "from its events"])
def test_readers_see_the_same_state_while_it_is_compacted_and_brought_back(postgres_engine: Engine, kind: Any) -> None:
    engine = create_engine(postgres_engine.url, pool_size=6)
    pay_in(engine, kind, "a-1", 3, 4)
    pay_in(engine, kind, "a-2", 5)
    over, unexpected, reads = threading.Event(), list[BaseException](), [0]

    def read() -> None:
        while not over.is_set():
            try:
                with Session(engine) as session:
                    account = session.get_one(kind, "a-1")
                    assert (account.balance, account.version, account.is_stream_closed) == (7, 3, True)
                    assert sorted(each.balance for each in session.scalars(select(kind))) == [5, 7]
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
                wait_until(lambda: compacts(session, kind, "a-1"))
                session.commit()
                unarchive(session, kind, "a-1", reason="r")
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


def test_the_command_line_compacts(accounts: Engine, tmp_path: Path) -> None:
    pay_in(accounts, Account, "a-3", 1)
    command = ("compact", BASE, "compacting.Account")
    said = succeed(*command, "a-1", "a-3", "--reason", "r", "--dry-run", engine=accounts)
    assert "2 streams would be compacted" in said.stderr
    said = succeed(*command, "a-1", "--reason", "delivered", "--user", "ann", "--json", engine=accounts)
    assert "1 stream compacted" in said.stderr
    line = json.loads(said.stdout)
    assert (line["aggregate_id"], line["is_compacted"], line["reason"], line["metadata"]) == (
        "a-1",
        True,
        "delivered",
        {"user": "ann"},
    )
    succeed(*command, "a-3", "--reason", "r", "--directory", str(tmp_path), engine=accounts)
    assert ", last state kept: delivered" in succeed("archived", BASE, engine=accounts).stdout
    assert "it is open" in fail(*command, "a-2", "--reason", "r", engine=accounts, status=1)
