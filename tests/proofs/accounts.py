"""Invoices whose events feed rows of read models; and what processes do with them: write, follow, rebuild."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, Engine, Integer, Table, create_engine, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventReplayer,
    EventStore,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    fold,
    handles,
    load_for_update,
    map_from_event,
)
from sa_eventsource.read_models import append, count, day, decrement, definition_of, first, increment, max_, min_, sum_
from sa_eventsource.session.retry import retry_on_conflict
from sa_eventsource.time_ordered_ids import uuid7
from tests.proofs.cutting import Points


class Charged(DomainEvent):
    __event_type__ = "proofs.Charged"
    customer: str
    branch: int
    amount: Decimal
    tag: str


class Paid(Charged):
    __event_type__ = "proofs.Paid"


def signed(event: Charged) -> Decimal:
    return -event.amount if isinstance(event, Paid) else event.amount


class BalanceFields:
    customer: Mapped[str] = map_from_event(key=True)
    balance: Mapped[Decimal] = map_from_event({Charged: increment("amount"), Paid: decrement("amount")})
    charges: Mapped[int] = map_from_event(Charged, reduce=count())
    first_tag: Mapped[str] = map_from_event(Charged, Paid, reduce=first("tag"))
    last_tag: Mapped[str] = map_from_event(Charged, Paid, source="tag")
    last_charge: Mapped[Decimal | None] = map_from_event(Charged, source="amount")
    least: Mapped[Decimal] = map_from_event(Charged, Paid, reduce=min_("amount"))
    greatest: Mapped[Decimal] = map_from_event(Charged, Paid, reduce=max_("amount"))
    tags: Mapped[list[str]] = map_from_event(Charged, Paid, reduce=append("tag"))


class DayFields:
    day: Mapped[date] = map_from_event(key=True, source=day("occurred_at", "Europe/Amsterdam"))
    branch: Mapped[int] = map_from_event(key=True)
    charges: Mapped[int] = map_from_event(Charged, reduce=count())
    turnover: Mapped[Decimal] = map_from_event(Charged, Paid, reduce=sum_("amount"))


class HandledFields:
    customer: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[Decimal] = mapped_column(default=0)
    entries: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Charged, Paid)
    def entered(cls, event: RecordedEvent[Charged], session: Session) -> None:
        row: Any = load_for_update(session, cls, event.event.customer)
        row.balance += signed(event.event)
        row.entries += 1


class Strong(DeclarativeBase):
    """Base of declared models that are written with the events."""


class Invoice(AggregateRoot, Strong):
    __aggregate_type__ = "proofs.Invoice"
    __ignored_events__ = (Charged, Paid)


class SharedBalance(BalanceFields, ReadModel, Strong):
    __consistency__ = "strong"


class OwnBalance(BalanceFields, ReadModel, Strong):
    __tablename__ = "own_balance"
    __consistency__ = "strong"


class SharedDay(DayFields, ReadModel, Strong):
    __consistency__ = "strong"


class OwnDay(DayFields, ReadModel, Strong):
    __tablename__ = "own_day"
    __consistency__ = "strong"


STRONG_MODELS = (SharedBalance, OwnBalance, SharedDay, OwnDay)


class Handled(DeclarativeBase):
    """Base of the model that handlers write."""


class HandledInvoice(AggregateRoot, Handled):
    __aggregate_type__ = "proofs.HandledInvoice"
    __ignored_events__ = (Charged, Paid)


class HandledBalance(HandledFields, ReadModel, Handled):
    __tablename__ = "handled_balance"
    __consistency__ = "strong"


class DayBesideHandlers(DayFields, ReadModel, Handled):
    __consistency__ = "strong"


class Eventual(DeclarativeBase):
    """Base of models that follow the log."""


class LateInvoice(AggregateRoot, Eventual):
    __aggregate_type__ = "proofs.LateInvoice"
    __ignored_events__ = (Charged, Paid)


class LateBalance(BalanceFields, ReadModel, Eventual):
    pass


class LateOwnDay(DayFields, ReadModel, Eventual):
    __tablename__ = "late_own_day"


class LateHandledBalance(HandledFields, ReadModel, Eventual):
    __tablename__ = "late_handled_balance"


Table("other", Eventual.metadata, Column("id", Integer, primary_key=True))


def random_events(chance: random.Random, name: str, customers: int = 4) -> list[list[DomainEvent]]:
    """What one transaction appends, by stream: several streams, several keys, in any order."""

    def one(number: str) -> DomainEvent:
        amount = Decimal(chance.randint(1, 10_000)).scaleb(-2)
        customer = f"c{chance.randrange(customers)}"
        return chance.choice([Charged, Paid])(customer=customer, branch=chance.randrange(3), amount=amount, tag=f"{name}.{number}")

    return [[one(f"{stream}.{number}") for number in range(chance.randint(1, 3))] for stream in range(chance.randint(1, 4))]


def add(session: Session, aggregate: type[AggregateRoot[Any]], streams: list[list[DomainEvent]]) -> None:
    for events in streams:
        session.add(invoice := aggregate(id=uuid7().hex))
        for each in events:
            invoice.apply_event(each)


def retried(work: Callable[[], None], states: list[str]) -> None:
    """Run a unit of work until it has won, with the SQLSTATE of each time that it lost."""

    @retry_on_conflict(attempts=1000, initial_wait=0.002, max_wait=0.05)
    def attempt() -> None:
        try:
            work()
        except DBAPIError as error:
            states.append(getattr(error.orig, "sqlstate", None) or repr(error))
            raise

    attempt()


def write_strong(engine: Engine, name: str, commits: int) -> list[str]:
    """Commit transactions of one flush each; return how they were refused before."""
    chance, states = random.Random(name), list[str]()
    for number in range(commits):
        streams = random_events(chance, f"{name}.{number}")

        def commit() -> None:
            with Session(engine) as session:
                add(session, Invoice, streams)
                session.commit()

        retried(commit, states)
    return states


def rows_of(session: Session, model: type[Any]) -> dict[Any, dict[str, Any]]:
    """The stored rows, as the fold gives them."""
    definition = definition_of(model)
    keys = [part.name for part in definition.key]
    names = [*keys, *(each.name for each in definition.fields), "version", "created_at", "updated_at"]
    rows = [{name: getattr(row, name) for name in names} for row in session.scalars(select(model))]
    return {tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]]: row for row in rows}


def check_rows(engine: Engine, base: Any, models: Sequence[type[Any]], *, least: int = 0) -> int:
    """In one snapshot, the rows are what the log folds to; return the log's length."""
    with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        events = EventStore(session, base).events.all()
        for model in models:
            rows = rows_of(session, model)
            assert rows == fold(model, events), model
            assert sum(row["version"] for row in rows.values()) == len(events)
        assert len(events) >= least
        return len(events)


def check_handled_rows(engine: Engine, base: Any, model: type[Any]) -> int:
    """In one snapshot, the handlers' rows are what the log's events sum up to; return the log's length."""
    sums: dict[str, tuple[Decimal, int]] = {}
    with Session(engine.execution_options(isolation_level="REPEATABLE READ")) as session:
        events = EventStore(session, base).events.of_type(Charged, Paid).all()
        for event in events:
            balance, entries = sums.get(event.event.customer, (Decimal(0), 0))
            sums[event.event.customer] = (balance + signed(event.event), entries + 1)
        assert {row.customer: (row.balance, row.entries) for row in session.scalars(select(model))} == sums
        return len(events)


@contextmanager
def connected(url: str, **options: Any) -> Iterator[Engine]:
    """An engine for the block, that soon finds deadlocks."""
    engine = create_engine(url, pool_size=20, connect_args={"options": "-c deadlock_timeout=20ms"}, **options)
    try:
        yield engine
    finally:
        engine.dispose()


def write_in_a_process(points: Points, url: str, level: str, name: str) -> None:
    """Write, and tell how it was refused."""
    with connected(url) as engine:
        points.say("refused", write_strong(engine.execution_options(isolation_level=level), name, 30))


def follow_in_a_process(points: Points, url: str, batch_size: int, names: Sequence[str]) -> None:
    """Catch up until nothing is left; tell each time that the connection was cut."""
    with connected(url) as engine:
        points.watch(engine)
        manager = ReadModelManager(engine, Eventual)
        while True:
            try:
                if sum(manager.catch_up(globals()[name], batch_size=batch_size) for name in names) == 0:
                    return
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                points.say("cut")


def rebuild_in_a_process(points: Points, url: str, name: str) -> None:
    """Rebuild one model."""
    with connected(url) as engine:
        EventReplayer(engine, Eventual).rebuild(globals()[name])
