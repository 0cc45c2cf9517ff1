"""How long pages of the event browser take in a long log: ``python -m benchmarks.browsing [--events 5000000]``.

The log is one of a shop: of each seven events, five are of an order, each caused by the one before, and two of the process that
fulfils it. Pages are asked for as an ASGI server does, without the network. The table shows the first time, and the median and the
longest of the times after it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from uuid import UUID

from httpx import ASGITransport, AsyncClient
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.orm import DeclarativeBase, Session

from benchmarks.accounts import autocommitting
from benchmarks.databases import chosen_server, circumstances, own_database
from sa_eventsource import (
    After,
    AggregateRoot,
    Command,
    DomainEvent,
    EventSourceOptions,
    ProcessManager,
    applies,
    command_handler,
    reacts,
)
from sa_eventsource.browser import Browser, everyone

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_A_TIME = 70_000
"""Events in a transaction of the filling: of ten thousand orders."""
_COMMANDS = 200_000


class Base(DeclarativeBase):
    """Declarative base of the shop."""

    __eventsource__ = EventSourceOptions(commands="commands")


class Placed(DomainEvent):
    """An order was placed."""

    __event_type__ = "browsing.Placed"
    __event_version__ = 2

    customer: str
    total: int
    note: str


class Moved(DomainEvent):
    """An order went on."""

    __event_type__ = "browsing.Moved"

    to: str


class Order(AggregateRoot[str], Base):
    """An order."""

    __aggregate_type__ = "browsing.Order"
    customer: str = ""
    stage: str = ""

    @applies(Placed)
    def _placed(self, event: Placed) -> None:
        self.customer = event.customer

    @applies(Moved)
    def _moved(self, event: Moved) -> None:
        self.stage = event.to


class Begun(DomainEvent):
    """An order is to be fulfilled."""

    __event_type__ = "browsing.Begun"


class Ended(DomainEvent):
    """It is."""

    __event_type__ = "browsing.Ended"


class Remind(Command[None]):
    """Ask how it was."""

    __command_type__ = "browsing.Remind"
    order: str


@command_handler(Remind)
def remind(command: Remind, session: Session) -> None:
    """Do nothing."""


class Fulfilment(ProcessManager[str], Base):
    """Sees to it that an order is fulfilled."""

    __aggregate_type__ = "browsing.Fulfilment"
    __ignored_events__ = (Begun, Ended)
    __start__ = "now"  # it has taken what is there

    @reacts(Placed)
    def on_placed(self, event: Placed) -> list[object]:  # noqa: ARG002 - all are alike
        """Begin, and ask later."""
        return [Begun(), After(timedelta(days=30), Remind(order=self.id))]


_FILL = """
INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, metadata, occurred_at,
    correlation_id, causation_id, recorded_at)
SELECT md5('e' || n)::uuid,
    CASE WHEN stage IN (1, 5) THEN 'browsing.Fulfilment' ELSE 'browsing.Order' END,
    'order-' || lpad(number::text, 8, '0'),
    (ARRAY[1, 1, 2, 3, 4, 2, 5])[stage + 1],
    CASE stage WHEN 0 THEN 'browsing.Placed' WHEN 1 THEN 'browsing.Begun' WHEN 5 THEN 'browsing.Ended'
        ELSE CASE n WHEN {rare} THEN 'browsing.Rare' ELSE CASE WHEN n < {old} THEN 'browsing.Old' ELSE 'browsing.Moved' END END END,
    CASE WHEN stage = 0 AND n >= {old} THEN 2 ELSE 1 END,
    CASE stage
        WHEN 0 THEN jsonb_build_object('customer', 'c-' || number % 50000, 'total', number % 1000, 'note', md5(number::text))
        WHEN 1 THEN '{{}}'
        WHEN 5 THEN '{{}}'
        ELSE jsonb_build_object('to', (ARRAY['', '', 'paid', 'packed', 'shipped', '', 'delivered'])[stage + 1]) END,
    jsonb_build_object('user', 'user-' || number % 200),
    timestamptz '2026-01-01' + n * interval '1 second',
    md5('c' || number)::uuid,
    CASE stage WHEN 0 THEN NULL ELSE md5('e' || n - 10000)::uuid END,
    timestamptz '2026-01-01' + n * interval '1 second'
FROM (
    SELECT n, (n - 1) % 70000 / 10000 AS stage, (n - 1) / 70000 * 10000 + (n - 1) % 10000 AS number
    FROM generate_series(cast(:first AS bigint), cast(:last AS bigint)) n
) numbered ORDER BY n
"""
_COMMANDS_OF_ALL_KINDS = """
INSERT INTO commands (command_id, command_type, command_data, status, due_at, process_type, process_id, attempts, error, created_at,
    handled_at)
SELECT md5('k' || n)::uuid, 'browsing.Remind', jsonb_build_object('order', 'order-' || lpad(n::text, 8, '0')),
    CASE WHEN n % 1000 = 0 THEN 'parked' WHEN n % 4 = 0 THEN 'scheduled' ELSE 'done' END,
    now() + (n % 700000 + 1) * interval '1 minute', 'browsing.Fulfilment', 'order-' || lpad(n::text, 8, '0'),
    CASE WHEN n % 1000 = 0 THEN 5 ELSE 0 END, CASE WHEN n % 1000 = 0 THEN 'ValueError: none' END, now(),
    CASE WHEN n % 4 <> 0 THEN now() END
FROM generate_series(1, :number) n
"""


def fill(engine: Engine, events: int, *, commands: int = _COMMANDS) -> None:
    """Write the log, and commands that wait, are parked and are done."""
    Base.metadata.create_all(engine)
    statement = text(_FILL.format(rare=events // 2, old=events // 100))
    for first in range(1, events + 1, _AT_A_TIME):
        with engine.begin() as connection:
            connection.execute(statement, {"first": first, "last": min(first + _AT_A_TIME - 1, events)})
    with engine.begin() as connection:
        connection.execute(text(_COMMANDS_OF_ALL_KINDS), {"number": commands})
    with autocommitting(engine) as connection:
        connection.execute(text("VACUUM ANALYZE events"))
        connection.execute(text("VACUUM ANALYZE commands"))


def pages(engine: Engine, events: int) -> Iterator[tuple[str, str]]:
    """Name what is measured, each with its address."""
    with engine.connect() as connection:
        seen = connection.execute(text("SELECT pg_current_snapshot()::text")).scalar_one()
        event_id, correlation_id = connection.execute(
            text("SELECT event_id, correlation_id FROM events WHERE position = :middle"), {"middle": events // 2}
        ).one()
    order = f"order-{events // 14:08}"
    queries: dict[str, dict[str, object]] = {
        "the newest": {},
        "before the middle": {"before": events // 2},
        "the oldest": {"after": 0},
        "one type of four": {"type": "browsing.Placed"},
        "a type of one event": {"type": "browsing.Rare"},
        "a type that ended long ago": {"type": "browsing.Old"},
        "a type of aggregates": {"aggregate": "browsing.Fulfilment"},
        "an aggregate": {"aggregate": "browsing.Order", "id": order},
        "payload that many have": {"where": "total > 500"},
        "payload that one of 350 has": {"where": "total = 7"},
        "payload that none has": {"where": "total = 7777"},
        "payload that none has, of a type": {"where": "total = 7777", "type": "browsing.Placed"},
        "metadata that one of 200 has": {"metadata": "user = user-7"},
        "a correlation": {"correlation": correlation_id},
        "a day long ago": {"since": "2026-01-05", "until": "2026-01-06"},
        "a moment long ago": {"at": "2026-01-20T12:00"},
        "a type on a day long ago": {"since": "2026-01-05", "until": "2026-01-06", "type": "browsing.Ended"},
        "live": {"live": "1"},
    }
    for name, query in queries.items():
        yield f"log: {name}", f"/log?{urlencode(query)}"
    yield "log: what is new", f"/log/news?{urlencode({'seen': seen})}"
    yield "stream", f"/stream?type=browsing.Order&id={order}&version=3"
    yield "event", f"/events/{UUID(str(event_id))}"
    yield "causation", f"/events/{UUID(str(event_id))}/causation"
    yield "correlation", f"/correlation?correlation={correlation_id}"
    yield "schema", "/schema"
    yield "schema: all events counted", "/schema?exactly=1"
    yield "schema: an event", "/schema/event?type=browsing.Placed"
    yield "commands: scheduled", "/commands"
    yield "commands: parked", "/commands?status=parked"
    yield "commands: done", "/commands?status=done"
    yield "processes", "/processes"
    yield "process manager", "/processes/one?name=browsing.Fulfilment"
    yield "process manager: from the middle", f"/processes/one?name=browsing.Fulfilment&after={order}"
    yield "process", f"/processes/instance?name=browsing.Fulfilment&id={order}"


async def measure(engine: Engine, events: int, times: int) -> Table:
    """Ask for each page some times."""
    browser = Browser(Base, engine, authorize=everyone)
    table = Table("page", "first", "median", "longest")
    async with AsyncClient(transport=ASGITransport(browser), base_url="http://127.0.0.1") as client:
        await client.get("/log")  # reads templates
        for name, address in pages(engine, events):
            taken = []
            for _ in range(times + 1):
                start = time.perf_counter()
                response = await client.get(address)
                taken.append((time.perf_counter() - start) * 1000)
                response.raise_for_status()
            first, *others = taken
            table.add_row(name, *(f"{each:,.0f} ms" for each in (first, statistics.median(others), max(others))))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--filled", metavar="URL", help="a database that this has filled before with so many events; it stays")
    parser.add_argument("--only-fill", metavar="URL", help="fill this empty database, and measure nothing")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        given = arguments.filled or arguments.only_fill
        server = make_url(given) if given else stack.enter_context(chosen_server())
        engine = create_engine(server if given else stack.enter_context(own_database(server, durable=False)))
        stack.callback(engine.dispose)
        if not arguments.filled:
            fill(engine, arguments.events)
        if not arguments.only_fill:
            table = asyncio.run(measure(engine, arguments.events, arguments.times))
            print(circumstances(server))
            Console(width=100).print(table)


if __name__ == "__main__":
    main()
