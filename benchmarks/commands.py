"""Measure commands: ``python -m benchmarks.commands [--url URL] [--seconds N] [--rate N] [--due N] [--durable]``.

How late scheduled commands run, while others come at a steady rate; how fast those that are due at once are worked off; how many
commands a thread handles in a second, with and without an id. Each writes an event. The worker runs in a process of its own, as it
does in production.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import DeclarativeBase, Session

from benchmarks.databases import empty_database
from sa_eventsource import AggregateRoot, Command, Commands, DomainEvent, EventSourceOptions, applies, command_handler, schedule

if TYPE_CHECKING:
    from collections.abc import Iterator


class Base(DeclarativeBase):
    """Declarative base of the benchmark."""

    __eventsource__ = EventSourceOptions(commands="commands")


class Opened(DomainEvent):
    """What each command leads to."""

    __event_type__ = "benchmarks.commands.Opened"
    number: int


class Account(AggregateRoot[UUID], Base):
    """An aggregate without state."""

    __aggregate_type__ = "benchmarks.commands.Account"

    @applies(Opened)
    def _opened(self, event: Opened) -> None:
        """Nothing."""


class Open(Command[UUID]):
    """Write an event to a new stream."""

    __command_type__ = "benchmarks.commands.Open"
    number: int


@command_handler(Open)
def open_account(command: Open, session: Session) -> UUID:
    """Handle it."""
    account = Account()
    account.apply_event(Opened(number=command.number))
    session.add(account)
    return account.id


TABLE = Base.metadata.tables["commands"]


@contextmanager
def worker(engine: Engine) -> Iterator[None]:
    """Run ``sa-eventsource run`` in a process of its own."""
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "sa_eventsource.cli", "run", "benchmarks.commands:Base", "--url", url]
    process = subprocess.Popen(command, env=os.environ | {"COLUMNS": "200"}, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def left(engine: Engine) -> int:
    """Count the commands that are scheduled."""
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(TABLE).where(TABLE.c.status == "scheduled")) or 0


def lateness(engine: Engine, seconds: float, rate: int) -> list[float]:
    """Schedule commands at a steady rate, a quarter of a second ahead; give by how many milliseconds each was late, sorted."""
    with worker(engine):
        _warm_up(engine)
        begun = time.monotonic()
        for number in range(int(seconds * rate)):
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            with Session(engine) as session:
                schedule(session, Open(number=number), at=datetime.now(UTC) + timedelta(seconds=0.25), base=Base)
                session.commit()
        while left(engine):
            time.sleep(0.05)
    late = func.extract("epoch", TABLE.c.handled_at - TABLE.c.due_at) * 1000
    with engine.connect() as connection:
        return sorted(map(float, connection.scalars(select(late))))


def drained(engine: Engine, number: int) -> float:
    """Have many commands due at the same moment; give how many are run in a second."""
    with worker(engine):
        _warm_up(engine)
        due = datetime.now(UTC) + timedelta(seconds=2 + number / 1000)
        with Session(engine) as session:
            for each in range(number):
                schedule(session, Open(number=each), at=due, base=Base)
            session.commit()
        time.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
        while left(engine):
            time.sleep(0.05)
    with engine.connect() as connection:
        last = connection.scalar(select(func.max(TABLE.c.handled_at)))
    if last is None:
        raise AssertionError("nothing was run")
    return float(number / (last - due).total_seconds())


def handled(engine: Engine, number: int, *, with_id: bool) -> float:
    """Handle commands one after the other; give how many in a second."""
    commands = Commands(engine, Base)
    begun = time.monotonic()
    for each in range(number):
        commands.handle(Open(number=each), command_id=uuid4() if with_id else None)
    return number / (time.monotonic() - begun)


def _warm_up(engine: Engine) -> None:
    with Session(engine) as session:
        schedule(session, Open(number=0), base=Base)
        session.commit()
    while left(engine):
        time.sleep(0.05)
    _empty(engine)


def _empty(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(delete(TABLE))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an empty database to use instead of an embedded PostgreSQL")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--due", type=int, default=5000)
    parser.add_argument("--durable", action="store_true", help="wait for the disk at each commit")
    arguments = parser.parse_args()
    table = Table("what", "measured", "target")
    with empty_database(arguments.url, durable=arguments.durable) as engine:
        Base.metadata.create_all(engine)
        for with_id in (False, True):
            handled(engine, 100, with_id=with_id)
            rate = handled(engine, 2000, with_id=with_id)
            table.add_row(f"handled one after the other, {'with' if with_id else 'without'} an id", f"{rate:,.0f}/s", "")
        _empty(engine)
        late = lateness(engine, arguments.seconds, arguments.rate)
        p50, p99 = late[len(late) // 2], late[int(len(late) * 0.99)]
        table.add_row(f"late, at {arguments.rate} a second", f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", "p99 < 50 ms")
        _empty(engine)
        table.add_row(f"drained, {arguments.due} due at once", f"{drained(engine, arguments.due):,.0f}/s", "> 500/s")
        Base.metadata.drop_all(engine)
    Console().print(table)


if __name__ == "__main__":
    main()
