"""Routes to the log, and around it, that SQLAlchemy offers beside the usual ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, MetaData, create_engine, event, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.ext.declarative import DeferredReflection
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, foreign, mapped_column, relationship, scoped_session, sessionmaker

from sa_eventsource import (
    AggregateRoot,
    AggregateStateError,
    DeclarationError,
    EventAlreadyAppendedError,
    EventSourcedRepository,
    EventStore,
    ExpectedVersion,
    ImmutableEventError,
    ReadModel,
    UnitOfWorkBypassError,
    applies,
    handles,
    load_for_update,
)
from sa_eventsource.time_ordered_ids import uuid7
from tests.bank import AnyAccount, Deposited, Withdrawn
from tests.committing import commit_events

pytestmark = pytest.mark.slow_on_sqlite


class Base(DeclarativeBase):
    """The application's declarative base."""


class Account(AnyAccount, Base):
    """An account, with a relationship to its cards."""

    cards: Mapped[list[Card]] = relationship(primaryjoin=lambda: foreign(Card.account_id) == Account.id, viewonly=True)


class Card(Base):
    """A card for an account, an ordinary entity."""

    __tablename__ = "cards"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str | None]
    text: Mapped[str] = mapped_column(default="")
    account: Mapped[Account | None] = relationship(primaryjoin=lambda: foreign(Card.account_id) == Account.id, overlaps="cards")


class Balance(ReadModel, Base):
    """What is in each account, by a handler that changes its row through the session."""

    __tablename__ = "balances"
    __projection_name__ = "hidden_routes.balances"
    __consistency__ = "strong"
    id: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Deposited)
    def deposited(cls, recorded: Any, session: Session) -> None:
        load_for_update(session, cls, recorded.aggregate_id).amount += recorded.event.amount


class AnyRow(Base):
    """A class for the rows of the log, as automap makes one for each table."""

    __table__ = Base.metadata.tables["events"]


ROW: dict[str, Any] = {
    "event_id": uuid4(),
    "aggregate_type": "Account",
    "aggregate_id": "a",
    "version": 7,
    "event_type": "bank.Deposited",
    "event_data": {},
    "occurred_at": datetime.now(UTC),
    "position": 99,
    "transaction_id": 1,
}


@pytest.fixture
def tables() -> MetaData | None:
    return None


@pytest.fixture
def accounts(engine: Engine) -> Engine:
    """A database with the tables."""
    Base.metadata.create_all(engine)
    return engine


def deposit(engine: Engine, account_id: str) -> None:
    commit_events(engine, Account, account_id, Deposited(amount=1))


def ids_in_log(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return [each.aggregate_id for each in EventStore(session, Base).events]


@pytest.mark.parametrize(
    "write",
    [
        lambda session: (session.add(AnyRow(**ROW)), session.flush()),
        lambda session: session.execute(insert(AnyRow).values(**ROW)),
        lambda session: session.bulk_insert_mappings(AnyRow, [ROW]),
        lambda session: session.bulk_save_objects([AnyRow(**ROW)]),
    ],
    ids=["add", "insert", "bulk_insert_mappings", "bulk_save_objects"],
)
def test_a_further_class_on_the_log_s_table_is_no_way_around_the_aggregates(accounts: Engine, write: Any) -> None:
    with Session(accounts) as session:
        with pytest.raises((UnitOfWorkBypassError, ImmutableEventError)):
            write(session)
        session.rollback()
    assert ids_in_log(accounts) == []


def test_a_further_class_on_the_log_s_table_reads(accounts: Engine) -> None:
    deposit(accounts, "a")
    with Session(accounts) as session:
        assert [each.aggregate_id for each in session.query(AnyRow.__table__)] == ["a"]


def test_a_copy_of_the_tables_has_the_triggers_too(engine: Engine) -> None:
    copy = MetaData()
    for table in Base.metadata.sorted_tables:
        table.to_metadata(copy)
    copy.create_all(engine)
    deposit(engine, "a")
    with pytest.raises(DBAPIError, match="immutable"), engine.begin() as connection:
        connection.execute(text("DELETE FROM events"))
    with Session(engine) as session, pytest.raises(UnitOfWorkBypassError):
        session.execute(insert(copy.tables["events"]).values(**ROW))
    copy.drop_all(engine)


def test_a_copy_in_another_schema_has_triggers_of_its_own(postgres_engine: Engine) -> None:
    copy = MetaData()
    for table in Base.metadata.sorted_tables:
        table.to_metadata(copy, schema="tenant")
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
    copy.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(insert(copy.tables["tenant.events"]).values({**ROW, "position": 1}))
    with pytest.raises(DBAPIError, match="immutable"), postgres_engine.begin() as connection:
        connection.execute(text("DELETE FROM tenant.events"))


def test_hooks_on_what_core_executes_hear_of_events_and_of_loads(accounts: Engine) -> None:
    heard: list[str] = []
    event.listen(accounts, "before_execute", lambda _connection, element, *_: heard.append(f"before {type(element).__name__}"))
    event.listen(accounts, "after_execute", lambda _connection, element, *_: heard.append(f"after {type(element).__name__}"))
    with Session(accounts) as session:
        account = Account(id="a")
        account.deposit()
        session.add(account)
        session.flush()
        assert heard[:2] == ["before Insert", "after Insert"]
        heard.clear()
        session.expunge_all()
        session.get_one(Account, "a")
    assert "before CompoundSelect" in heard or "before Select" in heard


def test_a_refresh_of_a_relationship_loads_it_though_the_aggregate_is_expired(tmp_path: Path) -> None:
    async def load() -> int:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'accounts.db'}")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            account = Account(id="a")
            account.deposit(3)
            session.add_all([account, Card(account_id="a")])
            await session.commit()
            await session.refresh(account, ["cards"])
            found = len(account.cards)
        await engine.dispose()
        return found

    assert asyncio.run(load()) == 1


def test_an_entity_is_merged_with_its_loaded_aggregate(accounts: Engine) -> None:
    with Session(accounts, expire_on_commit=False) as session:
        account = Account(id="a")
        account.deposit(2)
        card = Card(id=1, account=account)
        session.add(card)
        session.commit()
    card.text = "lost"
    with Session(accounts) as session:
        merged = session.merge(card)
        session.commit()
        assert merged.text == "lost"
        assert merged.account is not None
        assert merged.account.balance == 2
    account.deposit()
    with Session(accounts) as session, pytest.raises(UnitOfWorkBypassError, match=r"session\.merge\(\)"):
        session.merge(card)


def test_no_part_of_the_state_can_be_deleted() -> None:
    account = Account(id="a")
    for name in ("balance", "id", "version"):
        with pytest.raises(AggregateStateError, match=name):
            delattr(account, name)
    vars(account)["note"] = "an attribute of the application"
    delattr(account, "note")


def test_a_repository_takes_a_scoped_session(accounts: Engine) -> None:
    registry = scoped_session(sessionmaker(accounts))
    repository = EventSourcedRepository(registry, Account)
    assert repository.append("a", [Deposited(amount=1)], expected_version=ExpectedVersion.NO_STREAM) == 1
    registry.commit()
    registry.remove()
    assert repository.append("a", [Deposited(amount=1)], expected_version=1) == 2
    registry.rollback()
    registry.remove()
    assert ids_in_log(accounts) == ["a"]


def test_append_lets_a_strong_model_s_handler_change_its_row(accounts: Engine) -> None:
    deposit(accounts, "a")
    with Session(accounts) as session:
        EventSourcedRepository(session, Account).append("a", [Deposited(amount=4)], expected_version=1)
        session.commit()
        assert session.get_one(Balance, "a").amount == 5


@pytest.fixture
def plain_sqlite(tmp_path: Path) -> Iterator[Engine]:
    """SQLite as ``create_engine`` makes it, where ``sqlite3`` begins a transaction only before it writes a row."""
    engine = create_engine(f"sqlite:///{tmp_path / 'plain.db'}")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_what_append_wrote_is_rolled_back_on_sqlite_whoever_begins_its_transactions(plain_sqlite: Engine) -> None:
    with Session(plain_sqlite) as session:
        EventSourcedRepository(session, Account).append("a", [Deposited(amount=1)], expected_version=0)
        session.rollback()
    assert ids_in_log(plain_sqlite) == []
    with Session(plain_sqlite) as session:
        EventSourcedRepository(session, Account).append("b", [Deposited(amount=1)], expected_version=0)
        session.commit()
    assert ids_in_log(plain_sqlite) == ["b"]


def test_a_repeated_event_beside_a_new_one_names_what_is_still_to_be_done(accounts: Engine) -> None:
    message = uuid7()

    def work(other: str) -> None:
        with Session(accounts) as session:
            first, second = Account(id="a"), Account(id=other)
            first.apply_event(Deposited(amount=1), event_id=message)
            second.deposit()
            session.add_all([first, second])
            session.commit()

    work("b")
    with pytest.raises(EventAlreadyAppendedError, match=r"the events of Account 'c' are new: .*do that part again") as caught:
        work("c")
    assert caught.value.others == (("Account", "c"),)
    assert ids_in_log(accounts) == ["a", "b"]


@pytest.mark.parametrize("offset", [timedelta(hours=16), timedelta(hours=-23, minutes=-59), timedelta(microseconds=5)])
@pytest.mark.parametrize("number", [1, 2])
def test_any_offset_of_a_moment_is_stored(accounts: Engine, offset: timedelta, number: int) -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone(offset))
    with Session(accounts) as session:
        account = Account(id="a")
        for _ in range(number):
            account.apply_event(Deposited(amount=1), occurred_at=moment)
        session.add(account)
        session.commit()
        assert {each.occurred_at for each in EventStore(session, Base).events} == {moment}


class _Reflected(DeferredReflection, DeclarativeBase):
    __abstract__ = True


@pytest.mark.parametrize("base", [automap_base(), _Reflected], ids=["automap_base", "DeferredReflection"])
def test_a_base_that_reflects_the_table_of_every_class_is_refused(base: Any) -> None:
    with pytest.raises(DeclarationError, match=r"reflects the table of every class.*base of their own"):
        type("Reflecting", (AggregateRoot, base), {"__ignored_events__": (Deposited,)})


def test_an_aggregate_on_a_base_beside_a_reflecting_one_works(engine: Engine) -> None:
    reflecting = automap_base()

    class Beside(DeclarativeBase):
        metadata = reflecting.metadata

    class Beneath(AnyAccount, Beside):
        """An account on that base."""

    reflecting.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE legacy (id INTEGER PRIMARY KEY)"))
    reflecting.prepare(autoload_with=engine)
    with Session(engine) as session:
        account = Beneath(id="a")
        account.deposit()
        session.add(account)
        session.commit()
        assert session.get_one(Beneath, "a").version == 1
    assert "legacy" in reflecting.classes


def test_two_applies_methods_of_one_name_are_refused() -> None:
    class Depositing:
        @applies(Deposited)
        def _changed(self, event: Deposited) -> None:
            """Hidden by the other."""

    class Withdrawing:
        @applies(Withdrawn)
        def _changed(self, event: Withdrawn) -> None:
            """Hide the other."""

    with pytest.raises(DeclarationError, match=r"_changed hides the @applies\(Deposited\) method of that name"):
        type("Purse", (Withdrawing, Depositing, AggregateRoot, Base), {})


def test_two_handles_methods_of_one_name_are_refused() -> None:
    class Depositing:
        @classmethod
        @handles(Deposited)
        def changed(cls, recorded: Any, session: Session) -> None:
            """Hidden by the other."""

    class Withdrawing:
        @classmethod
        @handles(Withdrawn)
        def changed(cls, recorded: Any, session: Session) -> None:
            """Hide the other."""

    with pytest.raises(DeclarationError, match=r"changed hides the @handles\(Deposited\) method of that name"):
        type(
            "Rows",
            (Withdrawing, Depositing, ReadModel, Base),
            {"__tablename__": "rows", "id": mapped_column(primary_key=True), "__annotations__": {"id": Mapped[str]}},
        )


def test_a_method_that_overrides_without_the_decorator_still_applies() -> None:
    class Doubling(Account):
        def _deposited(self, event: Deposited) -> None:
            self.balance += 2 * event.amount

    account = Doubling(id="d")
    account.deposit(3)
    assert account.balance == 6
