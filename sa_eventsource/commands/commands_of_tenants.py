"""Scheduled commands where tenants share the table: one question finds whose are due, and those of each are run as its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import select

from sa_eventsource.commands.command_rows import require_table
from sa_eventsource.commands.command_turns import CommandTurns
from sa_eventsource.commands.due_commands import NAME, AsyncDueCommands, DueCommands
from sa_eventsource.commands.scheduling import on_scheduled
from sa_eventsource.mapping import ALL_TENANTS, TENANT_ID, is_scheduled, statement_clock
from sa_eventsource.workers import AsyncCompanion, Companion, sessions_for, uncut

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.workers import Companionship

K = TypeVar("K", DueCommands, AsyncDueCommands)


class _Tenants:
    """Who runs the commands of each tenant."""

    def __init__(self, worker: Companionship) -> None:
        self.worker = replace(worker, is_for_all=False)
        self.sessions = sessions_for(worker.sessions, ALL_TENANTS)
        self.turns = CommandTurns(self.worker, awaits=False)

    def companion(self, known: dict[str, K], kind: type[K], tenant: str) -> K:
        if tenant not in known:
            known[tenant] = kind(replace(self.worker, sessions=sessions_for(self.worker.sessions, tenant)))
        return known[tenant]


def due_tenants(session: Session, tables: EventSourceTables) -> list[str]:
    """List the tenants that have commands whose time has come, in a session that sees all tenants."""
    table = require_table(tables)
    asked = select(table.c[TENANT_ID]).where(is_scheduled(table), table.c.due_at <= statement_clock()).distinct()
    found = list(session.connection(bind_arguments=tables.bind_arguments).scalars(asked))
    session.rollback()
    return sorted(found)


class CommandsOfTenants(Companion):
    """Runs the scheduled commands of all tenants in a worker's thread."""

    name = NAME

    def __init__(self, worker: Companionship) -> None:
        """Take the worker's sessions."""
        self._tenants = _Tenants(worker)
        self._known: dict[str, DueCommands] = {}
        self._news = threading.Event()

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Run commands when they are due."""
        forget = on_scheduled(self.wake)
        try:
            while not is_stopping():
                self._news.wait(self._run_due(is_stopping))
                self._news.clear()
        finally:
            forget()

    def run_once(self) -> None:
        """Run the commands that are due."""
        with self._tenants.sessions() as session:
            tenants = due_tenants(session, self._tenants.worker.tables)
        for tenant in tenants:
            self._tenants.companion(self._known, DueCommands, tenant).run_once()

    def wake(self) -> None:
        """Look at once."""
        self._news.set()

    def _run_due(self, is_stopping: Callable[[], bool]) -> float:
        """Run what is due; give the seconds until to look again."""
        try:
            with self._tenants.sessions() as session:
                tenants = due_tenants(session, self._tenants.worker.tables)
        except Exception as error:  # noqa: BLE001 - raised again, unless the database is away
            return self._tenants.turns.after_outage(error)
        for tenant in tenants:
            if not is_stopping():
                self._tenants.companion(self._known, DueCommands, tenant).run_due(is_stopping)
        return self._tenants.worker.pace.longest


class AsyncCommandsOfTenants(AsyncCompanion):
    """Runs the scheduled commands of all tenants in a task of an asynchronous worker."""

    name = NAME

    def __init__(self, worker: Companionship) -> None:
        """Take the worker's sessions."""
        self._tenants = _Tenants(worker)
        self._known: dict[str, AsyncDueCommands] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Run commands when they are due."""
        while not stop.is_set():
            pause = await self._run_due(stop)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)

    async def run_once(self) -> None:
        """Run the commands that are due."""
        async with self._tenants.sessions() as session:
            tenants = await uncut(session, lambda asking: due_tenants(asking, self._tenants.worker.tables))
        for tenant in tenants:
            await self._tenants.companion(self._known, AsyncDueCommands, tenant).run_once()

    async def _run_due(self, stop: asyncio.Event) -> float:
        try:
            async with self._tenants.sessions() as session:
                tenants = await uncut(session, lambda asking: due_tenants(asking, self._tenants.worker.tables))
        except Exception as error:  # noqa: BLE001 - raised again, unless the database is away
            return self._tenants.turns.after_outage(error)
        for tenant in tenants:
            if not stop.is_set():
                await self._tenants.companion(self._known, AsyncDueCommands, tenant).run_due(stop)
        return self._tenants.worker.pace.longest


def due_commands(worker: Companionship) -> Companion | None:
    """Run the scheduled commands of a base alongside a worker, if it has a table of commands."""
    if worker.tables.commands is None:
        return None
    return CommandsOfTenants(worker) if worker.is_for_all else DueCommands(worker)


def async_due_commands(worker: Companionship) -> AsyncCompanion | None:
    """Run the scheduled commands of a base alongside an asynchronous worker, if it has a table of commands."""
    if worker.tables.commands is None:
        return None
    return AsyncCommandsOfTenants(worker) if worker.is_for_all else AsyncDueCommands(worker)
