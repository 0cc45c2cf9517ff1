"""Workers that do what there is to do, until nothing more follows, and say what could not be done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Interval, func, literal, select, update

from sa_eventsource.mapping import is_scheduled, tables_of_base
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from sqlalchemy import Connection, Engine

ONCE = RetryPolicy(attempts=1)
_LINES = 12
"""Of a traceback, so many lines are shown."""


class Idle:
    """What both kinds have in common: they look whether something has changed, and what is left."""

    def __init__(self, base: Any) -> None:
        """Choose the log."""
        self._tables = tables_of_base("eventsource_worker", base)

    def progress(self, connection: Connection) -> tuple[int, ...]:
        """Count what grows while something follows from something else."""
        tables = [self._tables.events, self._tables.parked_events, *self._commands()]
        counts = [connection.scalar(select(func.count()).select_from(each)) or 0 for each in tables]
        commands = self._commands()
        waiting = [connection.scalar(select(func.count()).select_from(each).where(is_scheduled(each))) or 0 for each in commands]
        return (*counts, *waiting)

    def pass_time(self, connection: Connection, delay: timedelta) -> None:
        """Have what is scheduled be due that much earlier."""
        for commands in self._commands():
            earlier = commands.c.due_at - literal(delay, Interval)
            connection.execute(update(commands).where(is_scheduled(commands)).values(due_at=earlier))

    def troubles(self, connection: Connection, hindered: Mapping[str, str]) -> list[str]:
        """Say who could not do what."""
        positions = self._tables.projection_positions
        held = connection.execute(select(positions.c.projection_name, positions.c.error))
        errors = {row.projection_name: row.error for row in held}
        found = [
            f"{name} could not go on: {why}" + (f"\n    {_end_of(errors[name])}" if errors.get(name) else "")
            for name, why in hindered.items()
        ]
        parked = self._tables.parked_events
        for row in connection.execute(select(parked).where(parked.c.error.is_not(None)).order_by(parked.c.position)).mappings():
            where = f"{row['aggregate_type']} {row['aggregate_id']}"
            found.append(f"{row['projection_name']} has parked an event of {where}: {_end_of(row['error'])}")
        for commands in self._commands():
            failed = select(commands.c.command_type, commands.c.error).where(commands.c.status == "parked")
            found += [f"{name} was not handled: {_end_of(error)}" for name, error in connection.execute(failed)]
            due = select(commands.c.command_type).where(is_scheduled(commands), commands.c.due_at <= func.clock_timestamp())
            found += [f"{name} is due, and nobody here can handle it: {_WHY_LEFT}" for (name,) in connection.execute(due)]
        return found

    def _commands(self) -> list[Any]:
        return [] if self._tables.commands is None else [self._tables.commands]


class IdleWorker(Idle):
    """Lets all that follows the log do what there is to do."""

    def __init__(self, engine: Engine, base: Any) -> None:
        """Choose the database and the log."""
        super().__init__(base)
        self._engine = engine
        self._worker = Worker(engine, base, retries=ONCE)

    def run(self, *, after: timedelta | None = None, check: bool = True) -> None:
        """Work until nothing more follows: events, what process managers send, commands that are due, and their events.

        What fails is tried once.

        Args:
            after: Then let so much time pass, and work again: what is scheduled by then is due that much earlier.
            check: Whether what could not be done is an error.

        Raises:
            AssertionError: A read model or a subscription could not take an event, or a command was not handled.
        """
        __tracebackhide__ = True
        self._run_until_idle()
        if after is not None:
            with self._engine.begin() as connection:
                self.pass_time(connection, after)
            self._run_until_idle()
        if check:
            with self._engine.connect() as connection:
                raise_troubles(self.troubles(connection, self._worker.hindered))

    def _run_until_idle(self) -> None:
        before = None
        while (now := self._look()) != before:
            before = now
            self._worker.run_once()

    def _look(self) -> tuple[int, ...]:
        with self._engine.connect() as connection:
            return self.progress(connection)


_WHY_LEFT = "its handler is not declared, or is a coroutine function, which eventsource_async_worker calls"


def raise_troubles(troubles: list[str]) -> None:
    """Fail, if something could not be done."""
    __tracebackhide__ = True
    if troubles:
        raise AssertionError("\n".join(["not all could be done (run(check=False) allows that):", *troubles]))


def _end_of(error: str | None) -> str:
    lines = (error or "").strip().splitlines()
    return "\n    ".join(lines[-_LINES:])
