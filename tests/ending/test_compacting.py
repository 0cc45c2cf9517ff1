"""Compacting a closed stream: its past is archived, and its last state is loaded as ever."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, func, select
from sqlalchemy.orm import Session

from sa_eventsource import (
    AggregateNotFoundError,
    ArchiveError,
    EventReplayer,
    EventSourcedRepository,
    EventStore,
    ProofOptions,
    StreamArchivedError,
    StreamClosedError,
    archive,
    archived_streams,
    compact,
    export_events,
    newest_head,
    unarchive,
    verify,
)
from tests.bank import Deposited
from tests.cli.commands import fail, succeed
from tests.ending.accounts import BASE, SNAPSHOTS, Account, Base, PlainAccount, compacted, pay_in, wrong
from tests.ending.tills import Base as Shop
from tests.ending.tills import Goods, Till, Tills, all_rows, follow_all, sell
from tests.statement_log import record_statements
from tests.waiting import wait_until


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


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
