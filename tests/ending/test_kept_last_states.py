"""The last state of a compacted stream is a snapshot: what is done without one, and what is said of a wrong one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, select, text, update
from sqlalchemy.orm import Session

from sa_eventsource import ArchiveError, EventSourcedRepository, StreamArchivedError, archive, compact, verify
from sa_eventsource.aggregates import definition_of
from sa_eventsource.store import read_streams
from tests.ending.accounts import SNAPSHOTS, Account, Base, PlainAccount, compacted, pay_in, wrong
from tests.statement_log import record_statements


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def change_code(engine: Engine) -> None:
    """Leave snapshots as another version of the class would have written them."""
    with engine.begin() as connection:
        connection.execute(update(SNAPSHOTS).values(state_fingerprint="of other code", state={"balance": 999999}))


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
