"""A state is never taken for that of another version: what a snapshot keeps, and what is rebuilt behind pending events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Session, make_transient, make_transient_to_detached
from sqlalchemy.orm.exc import DetachedInstanceError

from sa_eventsource import CorruptStreamError, EmptyAggregateError
from sa_eventsource.aggregates import definition_of
from tests.bank import Opened
from tests.databases import configure_sqlite
from tests.orders import Base
from tests.session.careless import CarelessAccount

pytestmark = pytest.mark.slow_on_sqlite


class EmptyAccount(CarelessAccount):
    """Opened without a list of amounts."""

    __ignored_events__ = (Opened,)


def store(engine: Engine, *amounts: int) -> None:
    """Commit an account with money."""
    with Session(engine) as session:
        session.add(CarelessAccount.open(*amounts))
        session.commit()


def snapshots(engine: Engine) -> list[int]:
    """List the versions of all snapshots."""
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT version FROM snapshots ORDER BY version")))


def balance(engine: Engine, account_id: str = "a") -> tuple[int, int]:
    """Load an account elsewhere, and tell its balance and version; the snapshot must tell the same as the events."""
    with Session(engine) as session:
        loaded = session.get_one(CarelessAccount, account_id)
        found = loaded.balance, loaded.version
        session.execute(text("DELETE FROM snapshots"))
        session.refresh(loaded)
        assert (loaded.balance, loaded.version) == found
        session.rollback()
    return found


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "loaded"])
def test_what_a_row_hook_applies_is_written_in_that_flush_and_is_of_the_snapshot(database: Engine, *, is_new: bool) -> None:
    def add_bonus(_mapper: Any, _connection: Any, account: CarelessAccount) -> None:
        account.deposit(100)

    if not is_new:
        store(database, 1, 2)
    hook = "before_insert" if is_new else "before_update"
    event.listen(CarelessAccount, hook, add_bonus)
    try:
        with Session(database) as session:
            account = CarelessAccount.open(1, 2) if is_new else session.get_one(CarelessAccount, "a")
            account.deposit(4)
            session.add(account)
            session.flush()
            assert (account.pending_events, account.version, list(session.dirty)) == ((), 5, [])
            session.commit()
    finally:
        event.remove(CarelessAccount, hook, add_bonus)
    assert balance(database) == (107, 5)
    assert snapshots(database) == [5] if is_new else [4]


def test_a_new_aggregate_may_get_its_first_event_in_a_row_hook(database: Engine) -> None:
    def open_it(_mapper: Any, _connection: Any, account: CarelessAccount) -> None:
        account.apply_event(Opened(owner="ann"))

    event.listen(CarelessAccount, "before_insert", open_it)
    try:
        with Session(database) as session:
            session.add(CarelessAccount(id="a"))
            session.commit()
    finally:
        event.remove(CarelessAccount, "before_insert", open_it)
    assert balance(database) == (0, 1)


def test_what_a_row_hook_applies_to_another_aggregate_of_the_flush_is_written_in_it_too(database: Engine) -> None:
    def move(_mapper: Any, _connection: Any, account: CarelessAccount) -> None:
        other = first if account is second else second
        other.deposit(100)

    first, second = CarelessAccount.open(1, account_id="a-1"), CarelessAccount.open(2, account_id="a-2")
    event.listen(CarelessAccount, "before_insert", move)
    try:
        with Session(database) as session:
            session.add_all([first, second])
            session.flush()
            assert first.pending_events == second.pending_events == ()
            session.commit()
    finally:
        event.remove(CarelessAccount, "before_insert", move)
    assert (balance(database, "a-1"), balance(database, "a-2")) == ((101, 3), (102, 3))


@pytest.mark.parametrize("hook", ["after_insert", "pending_to_persistent", "after_flush"])
def test_what_is_applied_when_the_events_are_written_is_of_no_snapshot_of_them(database: Engine, hook: str) -> None:
    called: list[bool] = []

    def add_once(*_: Any) -> None:
        if not called:
            called.append(True)
            account.deposit(100)

    account = CarelessAccount.open(1)
    with Session(database) as session:
        target: Any = CarelessAccount if hook == "after_insert" else session
        event.listen(target, hook, add_once)
        try:
            session.add(account)
            session.commit()
        finally:
            event.remove(target, hook, add_once)
    assert balance(database) == (101, 3)


def test_a_snapshot_needs_no_state_of_the_instance(database: Engine) -> None:
    with Session(database) as session:
        account = CarelessAccount.open(7)
        session.add(account)
        account.fail()
        session.commit()
    assert snapshots(database) == [2]
    assert balance(database) == (7, 2)


def test_a_snapshot_that_lacks_a_field_is_as_good_as_none(database: Engine) -> None:
    store(database, 7)
    with database.begin() as connection:
        assert snapshots(database) == [2]
        connection.execute(text('UPDATE snapshots SET state = \'{"owner": "ann", "balance": 99, "is_open": true}\''))
    assert balance(database) == (7, 2)


def test_a_field_that_no_event_has_set_is_told_as_unset(database: Engine) -> None:
    with Session(database) as session:
        empty = EmptyAccount(id="e")
        for _ in range(2):
            empty.apply_event(Opened(owner="ann"))
        session.add(empty)
        session.commit()
    with Session(database) as session:
        state = session.scalar(text("SELECT CAST(state AS TEXT) FROM snapshots"))
        assert definition_of(EmptyAccount).state.read(state or "") == {"owner": "", "balance": 0, "is_open": False}
        with pytest.raises(AttributeError, match="no event has set it yet"):
            _ = session.get_one(EmptyAccount, "e").amounts


def shard_sessions(tmp_path: Path) -> Any:
    """Make sessions over two databases; the chooser knows only of instances where they go."""
    engines = {name: create_engine(f"sqlite:///{tmp_path / name}") for name in ("one", "two")}
    for each in engines.values():
        configure_sqlite(each)
        Base.metadata.create_all(each)
    return lambda: ShardedSession(
        shards=engines,
        shard_chooser=lambda mapper, instance, clause=None: "one" if instance is None else "two",
        identity_chooser=lambda *_, **_options: ["two"],
        execute_chooser=lambda _context: ["one", "two"],
    )


@pytest.mark.parametrize("committed_before", [True, False])
def test_a_state_is_rebuilt_from_the_shard_it_came_from(tmp_path: Path, *, committed_before: bool) -> None:
    sharded = shard_sessions(tmp_path)
    with sharded() as session:
        session.add(CarelessAccount.open(10))
        session.commit()
    with sharded() as session:
        account = session.get_one(CarelessAccount, "a")
        if committed_before:  # then no transaction is open when the state is rebuilt
            session.commit()
            assert account.version == 2
            session.commit()
        account.deposit(5)
        account.fail()
        assert (account.balance, account.version) == (15, 3)
        session.commit()
    with sharded() as session:
        assert session.get_one(CarelessAccount, "a").balance == 15


def test_row_hooks_get_the_connection_of_the_shard(tmp_path: Path) -> None:
    databases: list[str] = []
    sharded = shard_sessions(tmp_path)
    listener = lambda _mapper, connection, _account: databases.append(Path(connection.engine.url.database).name)  # noqa: E731
    event.listen(CarelessAccount, "before_insert", listener)
    try:
        with sharded() as session:
            session.add(CarelessAccount.open(10))
            session.commit()
    finally:
        event.remove(CarelessAccount, "before_insert", listener)
    assert databases == ["two"]


def test_a_base_that_the_log_does_not_have_is_an_error_and_no_state(postgres_engine: Engine) -> None:
    store(postgres_engine, 1, 2)
    with Session(postgres_engine) as session:
        account = session.get_one(CarelessAccount, "a")
        account.deposit(4)
        account.fail()
        with session.no_autoflush:
            session.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
            session.execute(text("DELETE FROM events WHERE version >= :from_version"), {"from_version": 3})
            with pytest.raises(CorruptStreamError) as caught:
                _ = account.balance
            assert (caught.value.expected_version, caught.value.found_version) == (3, 3)
            session.execute(text("DELETE FROM events"))
            session.execute(text("DELETE FROM snapshots"))
            with pytest.raises(CorruptStreamError) as caught:
                account.deposit(8)
            assert (caught.value.expected_version, caught.value.found_version) == (1, 3)
        assert (account.version, len(account.pending_events)) == (4, 1)
        session.rollback()
        assert (account.balance, account.version) == (3, 3)


def test_an_aggregate_made_transient_keeps_no_state_without_its_base(database: Engine) -> None:
    store(database, 1, 2)
    with Session(database) as session:
        account = session.get_one(CarelessAccount, "a")
        account.deposit(4)
        make_transient(account)
        account.fail()
        with pytest.raises(DetachedInstanceError):
            _ = account.balance
        with pytest.raises(DetachedInstanceError):
            account.deposit(8)
        session.add(account)
        assert (account.balance, account.version) == (7, 4)
        account.deposit(8)
        account.fail()
        session.commit()
    assert balance(database) == (15, 5)


def test_so_it_is_with_one_that_has_no_pending_events(database: Engine) -> None:
    store(database, 1, 2)
    with Session(database) as session:
        account = session.get_one(CarelessAccount, "a")
        make_transient(account)
        account.fail()
        with pytest.raises(DetachedInstanceError):
            _ = account.balance
        session.add(account)
        with session.no_autoflush:
            assert (account.balance, account.version) == (3, 3)
            account.deposit(4)
        session.commit()
    assert balance(database) == (7, 4)


def test_a_rollback_of_its_flush_gives_such_a_one_its_events_and_its_base_back(database: Engine) -> None:
    store(database, 1, 2)
    with Session(database) as session:
        account = session.get_one(CarelessAccount, "a")
        make_transient(account)
        session.add(account)
        account.deposit(4)
        session.flush()
        session.rollback()
        assert (account.version, len(account.pending_events)) == (4, 1)
        with pytest.raises(DetachedInstanceError):
            _ = account.balance
        session.add(account)
        assert account.balance == 7
        session.commit()
    assert balance(database) == (7, 4)


@pytest.mark.parametrize("names", [None, ["version"], ["id", "version"]])
def test_an_aggregate_made_transient_when_it_was_expired_has_no_state(database: Engine, names: list[str] | None) -> None:
    store(database, 1)
    with Session(database) as session:
        account = session.get_one(CarelessAccount, "a")
        session.expire(account, names)
        make_transient(account)
        for _ in range(2):
            with pytest.raises(DetachedInstanceError, match="expired when it was made transient"):
                _ = account.balance
            with pytest.raises(DetachedInstanceError, match="expired when it was made transient"):
                account.deposit(1)
        session.add(account)
        with pytest.raises((DetachedInstanceError, EmptyAggregateError)):
            session.flush()
    assert balance(database) == (1, 2)


@pytest.mark.parametrize("how", ["read", "version", "apply", "refresh"])
def test_one_that_is_made_to_stand_for_a_stored_one_is_loaded(database: Engine, how: str) -> None:
    store(database, 1, 2)
    with Session(database) as session:
        account = CarelessAccount(id="a")
        make_transient_to_detached(account)
        session.add(account)
        if how == "version":
            assert account.version == 3
        if how == "apply":
            account.deposit(4)
        if how == "refresh":
            session.refresh(account)
        assert (account.balance, account.version) == ((7, 4) if how == "apply" else (3, 3))
        session.commit()
    assert balance(database) == ((7, 4) if how == "apply" else (3, 3))


def test_one_that_stands_for_a_stored_one_knows_nothing_while_it_is_detached(database: Engine) -> None:
    store(database, 1)
    account = CarelessAccount(id="a")
    make_transient_to_detached(account)
    with pytest.raises(DetachedInstanceError):
        _ = account.balance
    with pytest.raises(DetachedInstanceError):
        _ = account.version
