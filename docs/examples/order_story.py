"""The story of an order: what ``make demo`` shows.

    python order_story.py [postgresql+psycopg://user@host/database]

An order is placed, paid and shipped; two people change it at once; then the log is asked who did what and why, and what was known
yesterday; a snapshot makes a long story short; a read model lists the orders, now and as they were; what happened reaches a
consumer on a message bus; and a customer is forgotten. Every step says how many SQL statements it took, and which. At a terminal,
the event browser shows all of it in the end, until Ctrl-C. Without a URL it runs on an embedded PostgreSQL in a temporary
directory; with one, in a schema of its own, dropped at the end.
"""
# ruff: noqa: SIM117 - a step is a block of its own, so that what it does reads as an application's code

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import time
from base64 import b64encode
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

from example_browser import browse
from example_server import example_engine, server_version
from faststream import AckPolicy
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue, TestRabbitBroker
from pydantic import BaseModel
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    ConcurrencyError,
    DomainEvent,
    EnvironmentKeys,
    EventSourceOptions,
    EventStore,
    Personal,
    Publisher,
    ReadModel,
    Worker,
    applies,
    event_context,
    forget,
    map_from_event,
)
from sa_eventsource.repository import EventSourcedRepository
from sa_eventsource.session.retry import retry_on_conflict
from sa_eventsource.testing import projected
from sa_eventsource.time_ordered_ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

    from sa_eventsource import RecordedEvent

# -- the domain: what an application writes -----------------------------------------------------------------------------


class OrderStatus(StrEnum):
    """How far an order has come."""

    PLACED = "placed"
    PAID = "paid"
    SHIPPED = "shipped"
    DELIVERED = "delivered"


class Line(BaseModel, frozen=True):
    """So many of one article."""

    article: str
    quantity: int
    price: Decimal


class OrderPlaced(DomainEvent):
    """A customer ordered something."""

    customer: str
    lines: tuple[Line, ...]


class OrderPaid(DomainEvent):
    """The money came."""

    payment_id: str


class OrderShipped(DomainEvent):
    """The parcel left."""

    tracking: str


class NoteAdded(DomainEvent):
    """Somebody wrote something down."""

    text: str


class ParcelScanned(DomainEvent):
    """The parcel was seen somewhere."""

    place: str


class OrderDelivered(DomainEvent):
    """The parcel arrived."""


class WrongStatusError(Exception):
    """The order is not in the state that a step needs."""


class CustomerRegistered(DomainEvent):
    """Somebody has an account; what is personal is encrypted, with a key of their own."""

    country: str
    email: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]


class Base(DeclarativeBase):
    """The application's declarative base, as it has one already."""

    __eventsource__ = EventSourceOptions(master_keys=EnvironmentKeys("ORDER_STORY_MASTER_KEYS"))


class Order(AggregateRoot, Base):
    """An order: mapped like any class, stored as its events."""

    __snapshot_frequency__ = 10

    status: OrderStatus = OrderStatus.PLACED
    customer: str = ""
    total: Decimal = Decimal(0)
    notes: tuple[str, ...] = ()
    last_seen: str | None = None

    @classmethod
    def place(cls, customer: str, lines: Sequence[Line], *, at: datetime | None = None) -> Order:
        """Order something."""
        order = cls()
        order.apply_event(OrderPlaced(customer=customer, lines=tuple(lines)), occurred_at=at)
        return order

    def pay(self, payment_id: str, *, at: datetime | None = None) -> None:
        """Take the money."""
        self._require(OrderStatus.PLACED)
        self.apply_event(OrderPaid(payment_id=payment_id), occurred_at=at)

    def ship(self, tracking: str) -> None:
        """Send the parcel."""
        self._require(OrderStatus.PAID)
        self.apply_event(OrderShipped(tracking=tracking))

    def note(self, text: str) -> None:
        """Write something down."""
        self.apply_event(NoteAdded(text=text))

    def scan(self, place: str) -> None:
        """See the parcel pass."""
        self._require(OrderStatus.SHIPPED)
        self.apply_event(ParcelScanned(place=place))

    def deliver(self) -> None:
        """Hand the parcel over."""
        self._require(OrderStatus.SHIPPED)
        self.apply_event(OrderDelivered())

    def _require(self, status: OrderStatus) -> None:
        if self.status is not status:
            raise WrongStatusError(f"the order is {self.status}, not {status}")

    @applies(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> None:
        self.customer = event.customer
        self.total = sum((line.price * line.quantity for line in event.lines), Decimal(0))

    @applies(OrderPaid)
    def _paid(self, _: OrderPaid) -> None:
        self.status = OrderStatus.PAID

    @applies(OrderShipped)
    def _shipped(self, _: OrderShipped) -> None:
        self.status = OrderStatus.SHIPPED

    @applies(NoteAdded)
    def _noted(self, event: NoteAdded) -> None:
        self.notes = (*self.notes, event.text)

    @applies(ParcelScanned)
    def _scanned(self, event: ParcelScanned) -> None:
        self.last_seen = event.place

    @applies(OrderDelivered)
    def _delivered(self, _: OrderDelivered) -> None:
        self.status = OrderStatus.DELIVERED


class Customer(AggregateRoot, Base):
    """A customer, who may ask to be forgotten."""

    country: str = ""
    email: str = ""

    @applies(CustomerRegistered)
    def _registered(self, event: CustomerRegistered) -> None:
        self.country, self.email = event.country, event.email


class OrderList(ReadModel, Base):
    """The list of orders: rows that follow from the events, to be queried like those of any table."""

    id: Mapped[str]
    customer: Mapped[str] = map_from_event(OrderPlaced)
    status: Mapped[OrderStatus] = map_from_event(
        {
            OrderPlaced: OrderStatus.PLACED,
            OrderPaid: OrderStatus.PAID,
            OrderShipped: OrderStatus.SHIPPED,
            OrderDelivered: OrderStatus.DELIVERED,
        },
        index=True,
    )


# -- what others hear of it: a publisher, and a consumer that would run elsewhere -------------------------------------------

broker = RabbitBroker("amqp://in-memory", logger=None)
publisher = Publisher("shop", OrderPaid, OrderShipped, OrderDelivered, broker=broker, channel="shop", base=Base)
letters: list[str] = []


@broker.subscriber(
    RabbitQueue("letters", routing_key="Order.*"),
    RabbitExchange("shop", type=ExchangeType.TOPIC),
    ack_policy=AckPolicy.NACK_ON_ERROR,
)
async def write_to_customer(payload: dict[str, Any], message: RabbitMessage) -> None:
    """Take a message, which carries the event and, in its headers, what it is and whose."""
    detail = payload.get("tracking") or payload.get("payment_id") or ""
    letters.append(f"{message.headers['ce-type']} {detail}".strip())


# -- the story ---------------------------------------------------------------------------------------------------------

LINES: Final = (Line(article="kettle", quantity=1, price=Decimal("39.90")), Line(article="tea", quantity=4, price=Decimal("4.25")))
WIDTH: Final = 100


class Story:
    """Tells the steps, and counts the statements of each."""

    def __init__(self, engine: Engine, console: Console) -> None:
        """Listen to the engine."""
        self.engine = engine
        self.console = console
        self._statements: list[str] = []
        self._step = 0
        sqlalchemy_event.listen(engine, "begin", lambda _: self._statements.append("BEGIN"))
        sqlalchemy_event.listen(engine, "before_cursor_execute", self._executed)
        sqlalchemy_event.listen(engine, "commit", lambda _: self._statements.append("COMMIT"))
        sqlalchemy_event.listen(engine, "rollback", lambda _: self._statements.append("ROLLBACK"))

    def tell(self) -> None:
        """Tell all of it."""
        order_id = self.place()
        self.pay(order_id)
        self.ship(order_id)
        self.conflict(order_id)
        self.retry(order_id)
        self.audit(order_id)
        self.yesterday(order_id)
        self.snapshot(order_id)
        self.list_orders()
        self.publish()
        self.forget_customer()

    def place(self) -> str:
        """Place the order, two days ago."""
        with self.step("An order is placed, two days ago", "order = Order.place(...); session.add(order); session.commit()"):
            two_days_ago = datetime.now(UTC) - timedelta(days=2)
            with (
                Session(self.engine) as session,
                event_context(correlation_id=uuid7(), user="ann", reason="ordered in the web shop"),
            ):
                order = Order.place("Ann", LINES, at=two_days_ago)
                session.add(order)
                order_id = order.id
                session.commit()
        with self.quietly() as session:
            self.show(session.get_one(Order, order_id))
        return order_id

    def pay(self, order_id: str) -> None:
        """Pay it, this morning."""
        with self.step("It is paid, this morning", "order = session.get(Order, id); order.pay(...); session.commit()"):
            with Session(self.engine) as session:
                order = session.get_one(Order, order_id)
                try:
                    order.ship("PKG-40020")
                except WrongStatusError as error:
                    self.console.print(f"  [yellow]Shipping it before is refused:[/] {error}. That rule is the application's own.")
                with event_context(caused_by=self.latest(order_id), user="payments", reason="the bank reported a transfer"):
                    order.pay("PAY-7781", at=datetime.now(UTC) - timedelta(hours=3))
                session.commit()
        self.show_stored(order_id)

    def ship(self, order_id: str) -> None:
        """Ship it, now."""
        with self.step("It is shipped, now", "order = session.get(Order, id); order.ship(...); session.commit()"):
            with Session(self.engine) as session:
                order = session.get_one(Order, order_id)
                with event_context(caused_by=self.latest(order_id), user="bob", reason="picked and packed"):
                    order.ship("PKG-40021")
                session.commit()
        self.show_stored(order_id)

    def conflict(self, order_id: str) -> None:
        """Have two sessions change the order at once."""
        with self.step("Two people change it at once", "two sessions load version 3; both add an event and commit"):
            with Session(self.engine) as bobs, Session(self.engine) as carols:
                for_bob, for_carol = bobs.get_one(Order, order_id), carols.get_one(Order, order_id)
                with event_context(user="bob"):
                    for_bob.note("ring twice")
                with event_context(user="carol"):
                    for_carol.note("leave with the neighbour")
                bobs.commit()
                self.console.print("  [green]Bob[/] commits first, and his note is version 4.")
                try:
                    carols.commit()
                except ConcurrencyError as error:
                    self.console.print(
                        f"  [red]Carol[/] gets a [bold]ConcurrencyError[/]: expected version {error.expected_version}, "
                        f"actual version {error.actual_version}. She wrote nothing."
                    )
                    carols.rollback()
        self.show_stored(order_id)

    def retry(self, order_id: str) -> None:
        """Let Carol try again, and meet Bob once more."""
        attempts = 0

        @retry_on_conflict()
        def add_carols_note() -> None:
            nonlocal attempts
            attempts += 1
            with Session(self.engine) as session:
                order = session.get_one(Order, order_id)
                if attempts == 1:
                    self.bob_is_faster(order_id)
                with event_context(user="carol", reason="the customer called"):
                    order.note("leave with the neighbour")
                session.commit()

        with self.step("The same, with @retry_on_conflict", "Bob comes first again; the whole unit of work runs once more"):
            add_carols_note()
            self.console.print(f"  [green]Carol[/] has her note in after {attempts} attempts, loaded afresh for the second.")
        self.show_stored(order_id)

    def bob_is_faster(self, order_id: str) -> None:
        """Commit a note of Bob's between Carol's reading and writing."""
        with Session(self.engine) as session, event_context(user="bob", reason="saw the label"):
            session.get_one(Order, order_id).note("fragile")
            session.commit()

    def audit(self, order_id: str) -> None:
        """Ask the log who did what, and why."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for heading in ("", "when (UTC)", "what", "who", "why", "event", "caused by", "correlation"):
            table.add_column(heading, no_wrap=heading != "why")
        with self.step("The audit trail: who did what, when and why", "EventSourcedRepository(session, Order).history(id)"):
            with Session(self.engine) as session:
                for each in EventSourcedRepository(session, Order).history(order_id):
                    table.add_row(
                        str(each.version),
                        f"{each.occurred_at:%m-%d %H:%M}",
                        type(each.event).__name__,
                        str(each.metadata.get("user", "")),
                        str(each.metadata.get("reason", "")),
                        short(each.event_id),
                        short(each.causation_id),
                        short(each.correlation_id),
                    )
        self.console.print(table)

    def yesterday(self, order_id: str) -> None:
        """Load the order as it stood yesterday."""
        yesterday = datetime.now(UTC) - timedelta(days=1)
        with self.step("The state as it stood yesterday", "repository.load_at_time(id, yesterday)"):
            with Session(self.engine) as session:
                then = EventSourcedRepository(session, Order).load_at_time(order_id, yesterday)
        self.show(then, "yesterday")
        self.show_stored(order_id, "today")

    def snapshot(self, order_id: str) -> None:
        """Pass version 10, and load from there."""
        with self.step("A snapshot", "version 10 writes one, in the same transaction: Order.__snapshot_frequency__ = 10"):
            with Session(self.engine) as session, event_context(user="courier"):
                order = session.get_one(Order, order_id)
                for place in ("Hamburg", "Hanover", "Kassel", "Frankfurt"):
                    order.scan(place)
                session.commit()
            with Session(self.engine) as session, event_context(user="courier"):
                order = session.get_one(Order, order_id)
                order.scan("Mainz")
                order.deliver()
                session.commit()
        with self.step("Loading it again", "session.get(Order, id) reads the snapshot and the events after it: one statement"):
            with Session(self.engine) as session:
                rows = RowCount(self.engine)
                order = session.get_one(Order, order_id)
                read = rows.stop()
                self.console.print(
                    f"  {order.version} events made this order; loading it read [bold]{read} rows[/]: "
                    f"the snapshot at version 10, the event that it ends with, and the {read - 2} events after it."
                )
        self.show_stored(order_id)

    def list_orders(self) -> None:
        """Let a worker write the list of orders, and show it, now and as it was."""
        yesterday = datetime.now(UTC) - timedelta(days=1)
        with Session(self.engine) as session:
            session.add(Order.place("Ben", LINES[:1], at=yesterday - timedelta(hours=3)))
            session.add(Order.place("Cleo", LINES[1:], at=yesterday + timedelta(hours=20)))
            session.commit()
        code = "class OrderList(ReadModel, Base): ...; sa-eventsource run; select(OrderList)"
        with self.step("A read model: the list of orders, now and as it was", code, is_workers=True):
            Worker(self.engine, Base, only=["OrderList"]).run_once()
            with Session(self.engine) as session:
                now = session.scalars(select(OrderList).order_by(OrderList.customer)).all()
                then = projected(OrderList, EventStore(session, Base).events.occurred_until(yesterday))
        for when, rows in (("now", now), ("yesterday", sorted(then.values(), key=lambda row: row.customer))):
            listed = ", ".join(f"{row.customer} [bold]{row.status}[/]" for row in rows)
            self.console.print(f"  [bold green]{when}:[/] {listed}")

    def forget_customer(self) -> None:
        """Forget a customer, whose events stay."""
        code = "email: Annotated[str, Personal(subject=...)]; forget(session, id, reason=...)"
        with self.step("A customer is forgotten", code):
            with Session(self.engine) as session:
                ann = Customer(id="ann")
                ann.apply_event(CustomerRegistered(country="NL", email="ann@example.com"))
                session.add(ann)
                session.commit()
                self.console.print(f"  [bold green]before:[/] {ann.email}, in {ann.country}")
                forget(session, "ann", reason="she asked for it", base=Base)
                session.commit()
        with self.quietly() as session:
            ann = session.get_one(Customer, "ann")
            self.console.print(f"  [bold green]after:[/] {ann.email}, in {ann.country}: the event stays, its key is gone")

    def publish(self) -> None:
        """Publish what happened, to a broker in memory, and show what the consumer heard."""

        async def deliver() -> None:
            async with TestRabbitBroker(broker, connect_only=False):  # RabbitMQ itself, in production
                await asyncio.to_thread(Worker(self.engine, Base).run_once)

        code = 'Publisher("shop", OrderPaid, ..., broker=broker); sa-eventsource run'
        with self.step("A consumer on the message bus hears of it", code, is_workers=True):
            asyncio.run(deliver())
            for number, letter in enumerate(letters, start=1):
                self.console.print(f"  [green]message {number}:[/] {letter}")

    # How it is told.

    @contextmanager
    def step(self, title: str, code: str, *, is_workers: bool = False) -> Iterator[None]:
        """Tell one step, and its statements afterwards; how many, if they are a worker's."""
        self._step += 1
        self.console.print()
        self.console.print(Rule(Text(f"{self._step}. {title}", style="bold"), align="left", characters="-", style="dim"))
        self.console.print(Text(f"  {code}", style="cyan"))
        self._statements.clear()
        started = time.perf_counter()
        yield
        milliseconds = (time.perf_counter() - started) * 1000
        between = [each for each in self._statements if each not in {"BEGIN", "COMMIT", "ROLLBACK"}]
        who = " of the worker" if is_workers else ""
        self.console.print(f"  [bold]{len(between)} SQL statement{'' if len(between) == 1 else 's'}[/]{who}, {milliseconds:.1f} ms")
        for statement in [] if is_workers else self._statements:
            self.console.print(Text(f"    {shortened(statement)}", style="dim"), no_wrap=True, overflow="ellipsis")

    @contextmanager
    def quietly(self) -> Iterator[Session]:
        """Read something for the telling, which is not counted: it comes after the step."""
        with Session(self.engine) as session:
            yield session

    def latest(self, order_id: str) -> RecordedEvent[Any]:
        """Read the latest event; what comes next was caused by it. In an application, it is the message that is being handled."""
        counted = list(self._statements)
        with Session(self.engine) as session:
            found = EventSourcedRepository(session, Order).history(order_id).backward().first()
        self._statements[:] = counted
        if found is None:
            raise LookupError(order_id)
        return found

    def show_stored(self, order_id: str, when: str = "now") -> None:
        """Show an order as the database has it."""
        with self.quietly() as session:
            self.show(session.get_one(Order, order_id), when)

    def show(self, order: Order, when: str = "now") -> None:
        """Show an order."""
        seen = f", last seen in {order.last_seen}" if order.last_seen else ""
        notes = f", notes: {'; '.join(order.notes)}" if order.notes else ""
        self.console.print(
            f"  [bold green]{when}:[/] order of {order.customer}, [bold]{order.status}[/], total {order.total}, "
            f"version {order.version}{seen}{notes}"
        )

    def _executed(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._statements.append(statement)


class RowCount:
    """Counts the rows that one statement brings."""

    def __init__(self, engine: Engine) -> None:
        """Listen until :meth:`stop`."""
        self._engine = engine
        self._rows = 0
        sqlalchemy_event.listen(engine, "after_cursor_execute", self._executed)

    def stop(self) -> int:
        """Give the number of rows of the last SELECT."""
        sqlalchemy_event.remove(self._engine, "after_cursor_execute", self._executed)
        return self._rows

    def _executed(self, _connection: Any, cursor: Any, *_: Any) -> None:
        self._rows = cursor.rowcount


def short(identifier: UUID | None) -> str:
    """Give the end of an id, which tells it from others: ids made together begin alike."""
    return f"..{str(identifier)[-4:]}" if identifier is not None else ""


def shortened(statement: str) -> str:
    """Give a statement in one line, without what is the same every time: columns, casts and the names of parameters."""
    line = " ".join(statement.split())
    line = re.sub(r"%\((\w+?)(?:_\d+)?\)s(?:::[A-Z]+(?: WITH TIME ZONE)?)?", r":\1", line)
    line = re.sub(r"SELECT .*? FROM (?=events|json)", "SELECT ... FROM ", line, count=1)
    line = re.sub(
        r"^(SELECT .*?) WHERE .* UNION ALL SELECT .*", r"\1 WHERE ... UNION ALL SELECT ... FROM snapshots WHERE ...", line
    )
    line = re.sub(r"(?<=INTO events) \(.*?\)|(?<=INTO snapshots) \(.*?\)", "", line)
    line = re.sub(r"VALUES \(.*\)(?= ON CONFLICT)", "VALUES (...)", line)
    line = re.sub(r"CAST\((:\w+) AS \w+\)", r"\1", line)
    return re.sub(r' AS "new"\(.*?\)\)?(?= ON)|\bevents\.(?=\w)', "", line)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and tell the story; 0 if all went well."""
    parser = argparse.ArgumentParser(description="An order, stored as its events: placed, paid, shipped, and asked about.")
    parser.add_argument("url", nargs="?", help="a PostgreSQL database to use instead of an embedded server, in a schema of its own")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    started = time.perf_counter()
    # Elsewhere it is kept by whatever keeps secrets, and never replaced.
    os.environ["ORDER_STORY_MASTER_KEYS"] = "demo:" + b64encode(os.urandom(32)).decode()
    with example_engine(options.url, "order_story_example") as engine:
        Base.metadata.create_all(engine)
        ready = time.perf_counter()
        where = "an embedded server" if options.url is None else "the server given"
        console.print(
            f"[bold]The story of an order[/], on PostgreSQL {server_version(engine)}, {where}, ready in {ready - started:.1f} s"
        )
        Story(engine, console).tell()
        told = time.perf_counter()
        console.print()
        console.print(f"[bold green]The end.[/] The story took {told - ready:.1f} s, {told - started:.1f} s with the server.")
        if sys.stdout.isatty():
            browse(Base, engine, console, title="The story of an order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
