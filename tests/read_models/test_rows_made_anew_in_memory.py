"""A rebuild of rows that Python works out: they are kept in memory, and where there is no room, written and read again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, MetaData, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

from sa_eventsource import (
    REMOVED,
    DomainEvent,
    EventDecodeError,
    EventReplayer,
    EventStore,
    Evolved,
    ReadModel,
    ReadModelError,
    ReadModelManager,
    RecordedEvent,
    RetryPolicy,
    Worker,
    evolves,
    fold,
    map_from_event,
)
from sa_eventsource.read_models import ReadModelDefinition, count, last
from tests.bank import AnyAccount, Closed, Deposited, Withdrawn
from tests.committing import commit_events, commit_stored
from tests.read_models.memory import cramp
from tests.read_models.test_four_ways import rows_of
from tests.shop import AnyOrder, OrderPlaced


class Base(DeclarativeBase):
    """The application's declarative base."""


class Account(AnyAccount, Base):
    """An account."""

    __aggregate_type__ = "in_memory.Account"


class Order(AnyOrder, Base):
    """An order, for its total of any size."""

    __aggregate_type__ = "in_memory.Order"


class _Book(ReadModel):
    __abstract__ = True
    __removed_by__ = (Closed,)

    least: ClassVar[int] = 0

    balance: Mapped[int] = mapped_column(default=0)
    notes: Mapped[list[str]] = mapped_column(default=list)

    @evolves(Deposited)
    def deposit(self, recorded: RecordedEvent[Deposited]) -> None:
        if recorded.event.amount < self.least:
            raise ArithmeticError(f"cannot take {recorded.event.amount}")
        self.balance += recorded.event.amount
        self.notes.append(f"{recorded.event.note} at {self.balance} after {self.version - 1}")

    @evolves(Withdrawn)
    def withdraw(self, recorded: RecordedEvent[Withdrawn]) -> Evolved:
        self.balance -= recorded.event.amount
        return REMOVED if self.balance <= 0 else None


class SharedBook(_Book, Base):
    """In the shared table."""

    __projection_name__ = "in_memory.shared"


class OwnBook(_Book, Base):
    """In a table of its own, with the events."""

    __tablename__ = "in_memory_own"
    __consistency__ = "strong"
    least: ClassVar[int] = -100


class SplitBook(_Book, Base):
    """In parts that go on by themselves, and leave behind what they cannot take."""

    __tablename__ = "in_memory_split"
    __shards__ = 3
    __on_error__ = "park"


class Notes(ReadModel, Base):
    """How many deposits have each note; rows of several streams."""

    __tablename__ = "in_memory_notes"
    note: Mapped[str] = map_from_event(key=True)
    number: Mapped[int] = mapped_column(default=0)
    longest: Mapped[str] = mapped_column(String(5), default="")

    @evolves(Deposited)
    def deposit(self, recorded: RecordedEvent[Deposited]) -> None:
        self.number += 1
        self.longest = max(self.longest, recorded.event.note, key=len)


class Total(ReadModel, Base):
    """Numbers within documents."""

    __projection_name__ = "in_memory.total"
    total: Mapped[Decimal] = mapped_column(default=Decimal(0))
    least: Mapped[Decimal | None]

    @evolves(OrderPlaced)
    def place(self, recorded: RecordedEvent[OrderPlaced]) -> None:
        self.total = recorded.event.total


class DeclaredBook(ReadModel, Base):
    """Of declared fields, which Python works out on SQLite alone."""

    __projection_name__ = "in_memory.declared"
    __removed_by__ = (Closed,)
    deposits: Mapped[int] = map_from_event(Deposited, reduce=count())
    note: Mapped[str] = map_from_event(Deposited, reduce=last())


MODELS = (SharedBook, OwnBook, SplitBook, Notes, DeclaredBook)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


def happen(engine: Engine, *events: tuple[str, DomainEvent]) -> None:
    """Let events happen to accounts, each in a transaction of its own."""
    for account_id, event in events:
        commit_events(engine, Account, account_id, event, occurred_at=datetime(2026, 5, 1, tzinfo=UTC))


def deposit(account_id: str, amount: int = 1, note: str = "go") -> tuple[str, DomainEvent]:
    return account_id, Deposited(amount=amount, note=note)


HISTORY = (
    *(deposit(account_id, amount, note) for amount, note in enumerate(("go", "on", "up")) for account_id in "abcdefgh"),
    *((account_id, Closed()) for account_id in "aceg"),
    deposit("c"),  # begins again
    deposit("e"),
    ("e", Closed()),
    deposit("b", 4),
    ("b", Withdrawn(amount=7)),  # all that there is: removed by a method
    ("d", Withdrawn(amount=1)),
    deposit("b"),
    *(deposit(account_id, 2, "far") for account_id in "abdfh"),
)


def meant(engine: Engine, model: Any) -> dict[Any, dict[str, Any]]:
    with Session(engine) as session:
        return fold(model, EventStore(session, Base).events.all())


def stored(engine: Engine, model: Any) -> dict[Any, dict[str, Any]]:
    with Session(engine) as session:
        return rows_of(session, model)


@pytest.mark.slow_on_sqlite
@pytest.mark.parametrize(
    ("room", "batch_size"),
    [(50_000, 4), (2, 3), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((0, 1), (3, 7), (6, 5)))],
)
def test_rows_are_the_same_whatever_the_room(engine: Engine, monkeypatch: pytest.MonkeyPatch, room: int, batch_size: int) -> None:
    happen(engine, *HISTORY)
    cramp(monkeypatch, room=room, batch_size=batch_size)
    for model in MODELS:
        EventReplayer(engine, Base).rebuild(model)
        assert stored(engine, model) == meant(engine, model)
    happen(engine, deposit("a"), deposit("i"), ("b", Closed()))
    ReadModelManager(engine, Base).catch_up()
    for model in MODELS:
        assert stored(engine, model) == meant(engine, model)


def test_some_rows_are_the_same_whatever_the_room(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    happen(engine, *HISTORY)
    ReadModelManager(engine, Base).catch_up()
    cramp(monkeypatch, room=1, batch_size=2)
    monkeypatch.setattr("sa_eventsource.projections.rebuild_rows._READ_AT_A_TIME", 3)
    for model in (SharedBook, OwnBook, SplitBook):
        before = stored(engine, model)
        assert EventReplayer(engine, Base).rebuild_rows(model, ["a", "b", "d", "e", "f"]) == 4
        assert EventReplayer(engine, Base).rebuild_between(model, positions=(1, 10_000)) == len(before) == 6
        assert stored(engine, model) == before == meant(engine, model)


def test_each_row_is_written_once_and_none_is_read(
    postgres_engine: Engine,
    statements: Callable[[Engine], AbstractContextManager[list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happen(postgres_engine, *HISTORY)
    monkeypatch.setattr(ReadModelDefinition, "batch_size", 4)
    with statements(postgres_engine) as log:
        EventReplayer(postgres_engine, Base).rebuild(SharedBook)
    assert [each.split()[0] for each in log if "jsonb_populate_recordset" in each] == ["WITH"]


@pytest.mark.parametrize("total", ["1E+400", "-1.50", "0.00000000000000000000001", "12345678901234567890.1"])
def test_numbers_of_any_size_are_numbers_in_the_row(postgres_engine: Engine, total: str) -> None:
    commit_events(postgres_engine, Order, "a", OrderPlaced(customer_id="c-1", total=Decimal(total)))
    ReadModelManager(postgres_engine, Base).catch_up(Total)
    with postgres_engine.connect() as connection:
        assert connection.scalar(text("SELECT jsonb_typeof(data->'total') FROM projections WHERE id = 'a'")) == "number"
    assert stored(postgres_engine, Total) == meant(postgres_engine, Total)


ROOMS = pytest.mark.parametrize("room", [50_000, 1])


@ROOMS
def test_an_event_that_fails_is_named_and_all_is_as_it_was(engine: Engine, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    happen(engine, deposit("a"), deposit("b"), deposit("c"))
    ReadModelManager(engine, Base).catch_up(SharedBook)
    before = stored(engine, SharedBook)
    happen(engine, deposit("d"), deposit("b", -1), deposit("a"))
    cramp(monkeypatch, room=room, batch_size=2)
    with pytest.raises(ReadModelError, match="cannot take -1") as caught:
        EventReplayer(engine, Base).rebuild(SharedBook)
    assert len(caught.value.event_ids) == 1
    assert caught.value.rows == ("'b'",)
    assert stored(engine, SharedBook) == before
    assert ReadModelManager(engine, Base).status(SharedBook)[0].lag_events == 3


@ROOMS
def test_an_event_that_cannot_be_read_leaves_all_as_it_was(engine: Engine, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    happen(engine, deposit("a"), deposit("b"), deposit("c"))
    before = stored(engine, OwnBook)
    commit_stored(engine, Account, "d", "bank.Deposited", {})
    cramp(monkeypatch, room=room, batch_size=2)
    with pytest.raises(EventDecodeError, match="amount: Field required"):
        EventReplayer(engine, Base).rebuild(OwnBook)
    assert stored(engine, OwnBook) == before


@ROOMS
def test_what_is_parked_is_left_out(engine: Engine, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    happen(engine, deposit("a"), deposit("b"), deposit("c"), deposit("b", -1), deposit("b"), deposit("a"), deposit("c"))
    Worker(engine, Base, only=["SplitBook"], retries=RetryPolicy(attempts=1, first_pause=0)).run_once()
    cramp(monkeypatch, room=room, batch_size=2)
    assert EventReplayer(engine, Base).rebuild(SplitBook) == 7
    assert {key: (row["balance"], row["version"]) for key, row in stored(engine, SplitBook).items()} == {
        "a": (2, 2),
        "b": (1, 1),
        "c": (2, 2),
    }
    assert EventReplayer(engine, Base).rebuild_rows(SplitBook, ["a", "b"]) == 2
    assert stored(engine, SplitBook)["b"]["version"] == 1
    assert sum(each.parked_events for each in ReadModelManager(engine, Base).status(SplitBook)) == 2


@ROOMS
def test_a_row_that_the_database_refuses_is_named(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    notes = ("go", "on", "up", "longer than five", "to", "at", "by", "go")
    happen(postgres_engine, *(deposit("a", 1, note) for note in notes[:3]))
    ReadModelManager(postgres_engine, Base).catch_up(Notes)
    before = stored(postgres_engine, Notes)
    happen(postgres_engine, *(deposit("a", 1, note) for note in notes[3:]))
    cramp(monkeypatch, room=room, batch_size=3, written_at_once=5)
    with pytest.raises(ReadModelError, match=r"in row 'longer than five'.*too long") as caught:
        EventReplayer(postgres_engine, Base).rebuild(Notes)
    assert caught.value.rows == ("'longer than five'",)
    assert stored(postgres_engine, Notes) == before


def test_no_row_is_blamed_for_what_is_wrong_with_the_table(postgres_engine: Engine) -> None:
    happen(postgres_engine, deposit("a"), deposit("b", 1, "on"))
    with postgres_engine.begin() as connection:
        connection.execute(text("ALTER TABLE in_memory_notes DROP COLUMN longest"))
    with pytest.raises(ReadModelError, match="longest") as caught:
        EventReplayer(postgres_engine, Base).rebuild(Notes)
    assert caught.value.rows == ()


def test_rows_that_the_database_keeps_out_are_told(postgres_engine: Engine) -> None:
    happen(postgres_engine, deposit("a"), deposit("b", 1, "on"))
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"))
        connection.execute(
            text(
                "CREATE TRIGGER left_out BEFORE INSERT ON in_memory_notes FOR EACH ROW WHEN (NEW.note = 'on') "
                "EXECUTE FUNCTION leave_out()"
            )
        )
    with pytest.raises(ReadModelError, match=r"in row 'on'.*look at the triggers and rules of in_memory_notes"):
        EventReplayer(postgres_engine, Base).rebuild(Notes)


def test_a_tenants_rows_are_made_anew_in_its_schema(postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(CreateSchema("Tenant one"))
    tenants = [postgres_engine.execution_options(schema_translate_map={None: name}) for name in ("Tenant one", None)]
    for number, tenant in enumerate(tenants):
        Base.metadata.create_all(tenant)
        happen(tenant, *HISTORY[4 * number :])
        ReadModelManager(tenant, Base).catch_up()
    cramp(monkeypatch, room=2, batch_size=3)
    before = stored(tenants[1], SharedBook)
    for model in MODELS:
        EventReplayer(tenants[0], Base).rebuild(model)
        assert stored(tenants[0], model) == meant(tenants[0], model)
    assert EventReplayer(tenants[0], Base).rebuild_rows(SharedBook, ["a", "d"]) == 2
    assert stored(tenants[0], SharedBook) == meant(tenants[0], SharedBook) != before
    assert stored(tenants[1], SharedBook) == before
