"""Running scheduled commands: what a worker does about them, in a thread or a task alongside following the log.

A worker looks for the commands that are due, and goes through them. Each is claimed, handled and marked as done in one transaction
of its own: whoever dies meanwhile has done nothing, another worker takes it at once, and nothing that a handler sets for its
transaction reaches the next. Workers share the commands by ``SKIP LOCKED``; on SQLite, the one that writes is alone. Which time it
is, the database says. When nothing is due, it is asked again when the next command is, or sooner: one that is due before may be
scheduled elsewhere. A time-out waits for the process manager that has scheduled it, and is in nobody's way meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from sa_eventsource.application_errors import ends_program
from sa_eventsource.commands.command_turns import CommandTurns
from sa_eventsource.commands.pauses import pauses_between
from sa_eventsource.commands.scheduling import on_scheduled
from sa_eventsource.session import is_conflict
from sa_eventsource.store import roll_back
from sa_eventsource.workers import AsyncCompanion, Companion, Companionship, uncut

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from sa_eventsource.commands.command_rows import DueCommand

NAME = "commands"

_RACES = 5


class DueCommands(Companion):
    """Runs scheduled commands in a worker's thread."""

    name = NAME

    def __init__(self, worker: Companionship) -> None:
        """Take the worker's sessions."""
        self._sessions = worker.sessions
        self._turns = CommandTurns(worker, awaits=False)
        self._news = threading.Event()

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Run commands when they are due."""
        forget = on_scheduled(self.wake)
        try:
            while not is_stopping():
                self._news.wait(self.run_due(is_stopping))
                self._news.clear()
        finally:
            forget()

    def run_once(self) -> None:
        """Run the commands that are due."""
        while self._run_some(lambda: False) is None:
            pass

    def wake(self) -> None:
        """Look at once."""
        self._news.set()

    def run_due(self, is_stopping: Callable[[], bool]) -> float:
        """Run what is due; give the seconds until something may be."""
        try:
            while not is_stopping():
                pause = self._run_some(is_stopping)
                if pause is not None:
                    return pause
        except Exception as error:  # noqa: BLE001 - raised again, unless the database is away
            return self._turns.after_outage(error)
        return 0.0

    def _run_some(self, is_stopping: Callable[[], bool]) -> float | None:
        """Run some commands that are due; give the seconds until there may be one, or None if there may be more."""
        self._turns.is_listening = self.is_listening
        with self._sessions() as session:
            due, pause = self._turns.look(session)
        has_run = False
        while not is_stopping() and self._take(due):
            has_run = True
        return None if has_run else pause

    def _take(self, due: deque[UUID]) -> bool:
        """Run the first of some commands that nobody else is at; False if there is none."""
        for pause in (*pauses_between(_RACES), None):
            with self._sessions() as session:
                claimed = self._turns.claim(session, due)
                if claimed is None:
                    return False
                try:
                    self._handle(session, claimed)
                except BaseException as error:  # whatever a handler raises
                    if ends_program(error):
                        raise
                    roll_back(session)
                    if pause is None or not is_conflict(error):
                        self._turns.note_failure(session, claimed, error)
                        return True
                else:
                    return True
            due.appendleft(claimed.command_id)
            time.sleep(pause)
        return True

    def _handle(self, session: Session, claimed: DueCommand) -> None:
        attempt = self._turns.attempt(claimed)
        with attempt.context(session):
            with attempt.at_work(session):
                result = attempt.handler.call(attempt.command, session)
            attempt.finish(session, result)


class AsyncDueCommands(AsyncCompanion):
    """Runs scheduled commands in a task of an asynchronous worker."""

    name = NAME

    def __init__(self, worker: Companionship) -> None:
        """Take the worker's sessions."""
        self._sessions = worker.sessions
        self._turns = CommandTurns(worker, awaits=True)

    async def run(self, stop: asyncio.Event) -> None:
        """Run commands when they are due."""
        news, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(news.set)

        forget = on_scheduled(wake)
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                news.clear()
                pause = await self.run_due(stop)
                woken = asyncio.create_task(news.wait())
                try:
                    await asyncio.wait((stopping, woken), timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    woken.cancel()
        finally:
            forget()
            stopping.cancel()

    async def run_once(self) -> None:
        """Run the commands that are due."""
        stop = asyncio.Event()
        while await self._run_some(stop) is None:
            pass

    async def run_due(self, stop: asyncio.Event) -> float:
        """Run what is due; give the seconds until something may be."""
        try:
            while not stop.is_set():
                pause = await self._run_some(stop)
                if pause is not None:
                    return pause
        except Exception as error:  # noqa: BLE001 - raised again, unless the database is away
            return self._turns.after_outage(error)
        return 0.0

    async def _run_some(self, stop: asyncio.Event) -> float | None:
        """Run some commands that are due; give the seconds until there may be one, or None if there may be more."""
        async with self._sessions() as session:
            due, pause = await uncut(session, self._turns.look)
        has_run = False
        while not stop.is_set() and await self._take(due):
            has_run = True
        return None if has_run else float(pause)

    async def _take(self, due: deque[UUID]) -> bool:
        for pause in (*pauses_between(_RACES), None):
            async with self._sessions() as session:
                claimed: DueCommand | None = await session.run_sync(self._turns.claim, due)
                if claimed is None:
                    return False
                try:
                    await self._handle(session, claimed)
                except BaseException as error:  # whatever a handler raises, also where a task of its own was cancelled
                    if ends_program(error, awaited=True):
                        raise
                    await session.run_sync(roll_back)
                    if pause is None or not is_conflict(error):
                        await session.run_sync(self._turns.note_failure, claimed, error)
                        return True
                else:
                    return True
            due.appendleft(claimed.command_id)
            await asyncio.sleep(pause)
        return True

    async def _handle(self, session: AsyncSession, claimed: DueCommand) -> None:
        attempt = self._turns.attempt(claimed)
        with attempt.context(session.sync_session):
            with attempt.at_work(session.sync_session):
                result = await attempt.call(session)
            await session.run_sync(attempt.finish, result)
