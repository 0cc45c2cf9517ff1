"""A state is never taken for that of another version: what a snapshot keeps, and what is rebuilt behind pending events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, event, text
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Session, make_transient, make_transient_to_detached
from sqlalchemy.orm.exc import DetachedInstanceError

from sa_eventsource import AggregateRoot, CorruptStreamError, DomainEvent, EmptyAggregateError, applies
from sa_eventsource.aggregates import definition_of
from tests.databases import configure_sqlite

pytestmark = pytest.mark.slow_on_sqlite


class WalletBase(DeclarativeBase):
    """Base of the classes of these tests."""


class WalletOpened(DomainEvent):
    """A wallet was opened."""

    __event_type__ = "proven.WalletOpened"


class CoinAdded(DomainEvent):
    """A coin came in."""

    __event_type__ = "proven.CoinAdded"
    value: int


class Wallet(AggregateRoot, WalletBase):
    """Has a snapshot for every second event, and a method that raises. Its balance has no default."""

    __snapshot_frequency__ = 2

    balance: int
    owner: str | None = None

    @classmethod
    def of(cls, *values: int, wallet_id: str = "w") -> Wallet:
        """Open a wallet and put coins into it."""
        wallet = cls(id=wallet_id)
        wallet.apply_event(WalletOpened())
        for value in values:
            wallet.add(value)
        return wallet

    def add(self, value: int) -> None:
        """Put a coin in."""
        self.apply_event(CoinAdded(value=value))

    def fail(self) -> None:
        """Have a method raise, which leaves the instance without a state."""
        with pytest.raises(RuntimeError):
            self.add(-1)

    @applies(WalletOpened)
    def _opened(self, _event: WalletOpened) -> None:
        self.balance = 0

    @applies(CoinAdded)
    def _added(self, event: CoinAdded) -> None:
        if event.value < 0:
            raise RuntimeError("no such coin")
        self.balance += event.value


class EmptyWallet(Wallet):
    """Opened without a balance."""

    __ignored_events__ = (WalletOpened,)


@pytest.fixture
def tables() -> MetaData:
    return WalletBase.metadata


@pytest.fixture
def wallets(engine: Engine) -> Engine:
    """Engine on a database of each kind, with the tables."""
    return engine


def store(engine: Engine, *values: int) -> None:
    """Commit a wallet with coins."""
    with Session(engine) as session:
        session.add(Wallet.of(*values))
        session.commit()


def snapshots(engine: Engine) -> list[int]:
    """List the versions of all snapshots."""
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT version FROM snapshots ORDER BY version")))


def balance(engine: Engine, wallet_id: str = "w") -> tuple[int, int]:
    """Load a wallet elsewhere, and tell its balance and version; the snapshot must tell the same as the events."""
    with Session(engine) as session:
        loaded = session.get_one(Wallet, wallet_id)
        found = loaded.balance, loaded.version
        session.execute(text("DELETE FROM snapshots"))
        session.refresh(loaded)
        assert (loaded.balance, loaded.version) == found
        session.rollback()
    return found


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "loaded"])
def test_what_a_row_hook_applies_is_written_in_that_flush_and_is_of_the_snapshot(wallets: Engine, *, is_new: bool) -> None:
    def add_bonus(_mapper: Any, _connection: Any, wallet: Wallet) -> None:
        wallet.add(100)

    if not is_new:
        store(wallets, 1, 2)
    hook = "before_insert" if is_new else "before_update"
    event.listen(Wallet, hook, add_bonus)
    try:
        with Session(wallets) as session:
            wallet = Wallet.of(1, 2) if is_new else session.get_one(Wallet, "w")
            wallet.add(4)
            session.add(wallet)
            session.flush()
            assert (wallet.pending_events, wallet.version, list(session.dirty)) == ((), 5, [])
            session.commit()
    finally:
        event.remove(Wallet, hook, add_bonus)
    assert balance(wallets) == (107, 5)
    assert snapshots(wallets) == [5] if is_new else [4]


def test_a_new_aggregate_may_get_its_first_event_in_a_row_hook(wallets: Engine) -> None:
    def open_it(_mapper: Any, _connection: Any, wallet: Wallet) -> None:
        wallet.apply_event(WalletOpened())

    event.listen(Wallet, "before_insert", open_it)
    try:
        with Session(wallets) as session:
            session.add(Wallet(id="w"))
            session.commit()
    finally:
        event.remove(Wallet, "before_insert", open_it)
    assert balance(wallets) == (0, 1)


def test_what_a_row_hook_applies_to_another_aggregate_of_the_flush_is_written_in_it_too(wallets: Engine) -> None:
    def move(_mapper: Any, _connection: Any, wallet: Wallet) -> None:
        other = first if wallet is second else second
        other.add(100)

    first, second = Wallet.of(1, wallet_id="w-1"), Wallet.of(2, wallet_id="w-2")
    event.listen(Wallet, "before_insert", move)
    try:
        with Session(wallets) as session:
            session.add_all([first, second])
            session.flush()
            assert first.pending_events == second.pending_events == ()
            session.commit()
    finally:
        event.remove(Wallet, "before_insert", move)
    assert (balance(wallets, "w-1"), balance(wallets, "w-2")) == ((101, 3), (102, 3))


@pytest.mark.parametrize("hook", ["after_insert", "pending_to_persistent", "after_flush"])
def test_what_is_applied_when_the_events_are_written_is_of_no_snapshot_of_them(wallets: Engine, hook: str) -> None:
    called: list[bool] = []

    def add_once(*_: Any) -> None:
        if not called:
            called.append(True)
            wallet.add(100)

    wallet = Wallet.of(1)
    with Session(wallets) as session:
        target: Any = Wallet if hook == "after_insert" else session
        event.listen(target, hook, add_once)
        try:
            session.add(wallet)
            session.commit()
        finally:
            event.remove(target, hook, add_once)
    assert balance(wallets) == (101, 3)


def test_a_snapshot_needs_no_state_of_the_instance(wallets: Engine) -> None:
    with Session(wallets) as session:
        wallet = Wallet.of(7)
        session.add(wallet)
        wallet.fail()
        session.commit()
    assert snapshots(wallets) == [2]
    assert balance(wallets) == (7, 2)


def test_a_snapshot_that_lacks_a_field_is_as_good_as_none(wallets: Engine) -> None:
    store(wallets, 7)
    with wallets.begin() as connection:
        assert snapshots(wallets) == [2]
        connection.execute(text("UPDATE snapshots SET state = '{\"owner\": null}'"))
    assert balance(wallets) == (7, 2)


def test_a_field_that_no_event_has_set_is_told_as_unset(wallets: Engine) -> None:
    with Session(wallets) as session:
        empty = EmptyWallet(id="e")
        for _ in range(2):
            empty.apply_event(WalletOpened())
        session.add(empty)
        session.commit()
    with Session(wallets) as session:
        state = session.scalar(text("SELECT CAST(state AS TEXT) FROM snapshots"))
        assert definition_of(EmptyWallet).state.read(state or "") == {"owner": None}
        with pytest.raises(AttributeError, match="no event has set it yet"):
            _ = session.get_one(EmptyWallet, "e").balance


def shard_sessions(tmp_path: Path) -> Any:
    """Make sessions over two databases; the chooser knows only of instances where they go."""
    engines = {name: create_engine(f"sqlite:///{tmp_path / name}") for name in ("one", "two")}
    for each in engines.values():
        configure_sqlite(each)
        WalletBase.metadata.create_all(each)
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
        session.add(Wallet.of(10))
        session.commit()
    with sharded() as session:
        wallet = session.get_one(Wallet, "w")
        if committed_before:  # then no transaction is open when the state is rebuilt
            session.commit()
            assert wallet.version == 2
            session.commit()
        wallet.add(5)
        wallet.fail()
        assert (wallet.balance, wallet.version) == (15, 3)
        session.commit()
    with sharded() as session:
        assert session.get_one(Wallet, "w").balance == 15


def test_row_hooks_get_the_connection_of_the_shard(tmp_path: Path) -> None:
    databases: list[str] = []
    sharded = shard_sessions(tmp_path)
    listener = lambda _mapper, connection, _wallet: databases.append(Path(connection.engine.url.database).name)  # noqa: E731
    event.listen(Wallet, "before_insert", listener)
    try:
        with sharded() as session:
            session.add(Wallet.of(10))
            session.commit()
    finally:
        event.remove(Wallet, "before_insert", listener)
    assert databases == ["two"]


def test_a_base_that_the_log_does_not_have_is_an_error_and_no_state(postgres_engine: Engine) -> None:
    store(postgres_engine, 1, 2)
    with Session(postgres_engine) as session:
        wallet = session.get_one(Wallet, "w")
        wallet.add(4)
        wallet.fail()
        with session.no_autoflush:
            session.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
            session.execute(text("DELETE FROM events WHERE version >= :from_version"), {"from_version": 3})
            with pytest.raises(CorruptStreamError) as caught:
                _ = wallet.balance
            assert (caught.value.expected_version, caught.value.found_version) == (3, 3)
            session.execute(text("DELETE FROM events"))
            session.execute(text("DELETE FROM snapshots"))
            with pytest.raises(CorruptStreamError) as caught:
                wallet.add(8)
            assert (caught.value.expected_version, caught.value.found_version) == (1, 3)
        assert (wallet.version, len(wallet.pending_events)) == (4, 1)
        session.rollback()
        assert (wallet.balance, wallet.version) == (3, 3)


def test_an_aggregate_made_transient_keeps_no_state_without_its_base(wallets: Engine) -> None:
    store(wallets, 1, 2)
    with Session(wallets) as session:
        wallet = session.get_one(Wallet, "w")
        wallet.add(4)
        make_transient(wallet)
        wallet.fail()
        with pytest.raises(DetachedInstanceError):
            _ = wallet.balance
        with pytest.raises(DetachedInstanceError):
            wallet.add(8)
        session.add(wallet)
        assert (wallet.balance, wallet.version) == (7, 4)
        wallet.add(8)
        wallet.fail()
        session.commit()
    assert balance(wallets) == (15, 5)


def test_so_it_is_with_one_that_has_no_pending_events(wallets: Engine) -> None:
    store(wallets, 1, 2)
    with Session(wallets) as session:
        wallet = session.get_one(Wallet, "w")
        make_transient(wallet)
        wallet.fail()
        with pytest.raises(DetachedInstanceError):
            _ = wallet.balance
        session.add(wallet)
        with session.no_autoflush:
            assert (wallet.balance, wallet.version) == (3, 3)
            wallet.add(4)
        session.commit()
    assert balance(wallets) == (7, 4)


def test_a_rollback_of_its_flush_gives_such_a_one_its_events_and_its_base_back(wallets: Engine) -> None:
    store(wallets, 1, 2)
    with Session(wallets) as session:
        wallet = session.get_one(Wallet, "w")
        make_transient(wallet)
        session.add(wallet)
        wallet.add(4)
        session.flush()
        session.rollback()
        assert (wallet.version, len(wallet.pending_events)) == (4, 1)
        with pytest.raises(DetachedInstanceError):
            _ = wallet.balance
        session.add(wallet)
        assert wallet.balance == 7
        session.commit()
    assert balance(wallets) == (7, 4)


@pytest.mark.parametrize("names", [None, ["version"], ["id", "version"]])
def test_an_aggregate_made_transient_when_it_was_expired_has_no_state(wallets: Engine, names: list[str] | None) -> None:
    store(wallets, 1)
    with Session(wallets) as session:
        wallet = session.get_one(Wallet, "w")
        session.expire(wallet, names)
        make_transient(wallet)
        for _ in range(2):
            with pytest.raises(DetachedInstanceError, match="expired when it was made transient"):
                _ = wallet.balance
            with pytest.raises(DetachedInstanceError, match="expired when it was made transient"):
                wallet.add(1)
        session.add(wallet)
        with pytest.raises((DetachedInstanceError, EmptyAggregateError)):
            session.flush()
    assert balance(wallets) == (1, 2)


@pytest.mark.parametrize("how", ["read", "version", "apply", "refresh"])
def test_one_that_is_made_to_stand_for_a_stored_one_is_loaded(wallets: Engine, how: str) -> None:
    store(wallets, 1, 2)
    with Session(wallets) as session:
        wallet = Wallet(id="w")
        make_transient_to_detached(wallet)
        session.add(wallet)
        if how == "version":
            assert wallet.version == 3
        if how == "apply":
            wallet.add(4)
        if how == "refresh":
            session.refresh(wallet)
        assert (wallet.balance, wallet.version) == ((7, 4) if how == "apply" else (3, 3))
        session.commit()
    assert balance(wallets) == ((7, 4) if how == "apply" else (3, 3))


def test_one_that_stands_for_a_stored_one_knows_nothing_while_it_is_detached(wallets: Engine) -> None:
    store(wallets, 1)
    wallet = Wallet(id="w")
    make_transient_to_detached(wallet)
    with pytest.raises(DetachedInstanceError):
        _ = wallet.balance
    with pytest.raises(DetachedInstanceError):
        _ = wallet.version
