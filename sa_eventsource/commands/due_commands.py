"""Running scheduled commands: what a worker does about them, in a thread or a task beside following the log.

A worker looks for the commands that are due, and goes through them. Each is claimed, handled and marked as done in one transaction
of its own: whoever dies meanwhile has done nothing, another worker takes it at once, and nothing that a handler sets for its
transaction reaches the next. Workers share the commands by ``SKIP LOCKED``; on SQLite, the one that writes is alone. Which time it
is, the database says. When nothing is due, it is asked again when the next command is, or sooner: one that is due before may be
scheduled elsewhere. A time-out waits for the process manager that has scheduled it, and is in nobody's way meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from sa_eventsource.commands.attempt import Attempt
from sa_eventsource.commands.command_handlers import handlers_on
from sa_eventsource.commands.command_rows import CommandRows
from sa_eventsource.commands.pauses import pauses_between
from sa_eventsource.commands.scheduling import on_scheduled
from sa_eventsource.exceptions import CommandPayloadError, DomainRuleError
from sa_eventsource.projections import Clearances, error_text, may_run
from sa_eventsource.session import is_conflict
from sa_eventsource.store import Meaning, meaning_of, message_of
from sa_eventsource.workers import AsyncCompanion, Companion, Companionship

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from sa_eventsource.commands.command_rows import DueCommand, NextCommand

log = logging.getLogger("sa_eventsource.worker")

NAME = "commands"

_LOOK_UP = 0.1
"""Seconds between two looks whether to stop."""

_QUIET_SHARE = 10
"""The pause is this part of the time for which nothing was due."""

_AT_A_LOOK = 100
"""How many commands that are due one look finds."""

_RACES = 5
_FIRST_OUTAGE = 0.1


@dataclass(slots=True)
class _Turns:
    """What threads and tasks have in common: the statements, and how long to wait.

    Attributes:
        worker: Whose companion it is.
        awaits: Whether handlers that are coroutine functions can be called.
    """

    worker: Companionship
    awaits: bool
    _last_news: float = field(default_factory=time.monotonic, init=False)
    _outage: float = field(default=0.0, init=False)
    _said: set[str] = field(default_factory=set, init=False)
    _clearances: Clearances = field(init=False)
    _holds_back: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Know nothing yet of process managers."""
        self._clearances = Clearances(self.worker.tables)

    def types(self) -> list[str]:
        """List the stored names of the commands that can be run here; others are left to those who can."""
        handlers = handlers_on(self.worker.tables)
        for name, handler in handlers.items():
            if handler.is_coroutine_function and not self.awaits and name not in self._said:
                self._said.add(name)
                log.warning("scheduled commands %s are left alone: their handler is a coroutine function, for an AsyncWorker", name)
        return sorted(name for name, each in handlers.items() if self.awaits or not each.is_coroutine_function)

    def look(self, session: Session) -> tuple[deque[UUID], float]:
        """Look for commands that are due, and tell after how many seconds to look again where none is, or all are others'."""
        rows, types = CommandRows.within(session, self.worker.tables), self.types()
        found, holds_back = rows.next_due(types, _AT_A_LOOK), False
        processes = rows.due_processes() if any(each.is_due and each.process_type is not None for each in found) else []
        session.rollback()
        if processes:
            due = {each.command_id for each in found if each.is_due}
            found = self._without_waiting(session, types, processes, found[0].now)
            holds_back = not due.issubset(each.command_id for each in found)
        if holds_back and not self._holds_back:  # the process manager may be at it: look again soon
            self._last_news = time.monotonic()
        self._outage, self._holds_back = 0.0, holds_back
        due_now, pace = deque(each.command_id for each in found if each.is_due), self.worker.pace
        quiet = max(pace.shortest, min(pace.longest, (time.monotonic() - self._last_news) / _QUIET_SHARE))
        if due_now or not found:
            return due_now, quiet
        return due_now, max(0.0, min(quiet, (found[0].due_at - found[0].now).total_seconds()))

    def _without_waiting(self, session: Session, types: list[str], processes: list[str], now: datetime) -> list[NextCommand]:
        """Look once more, without the time-outs that wait for what their process managers have yet to take."""
        clearances = self._clearances.find(session, processes, now)
        rows = CommandRows.within(session, self.worker.tables)
        found = rows.next_due(types, _AT_A_LOOK, may_run(self.worker.tables, clearances))
        session.rollback()
        return found

    def claim(self, session: Session, due: deque[UUID]) -> DueCommand | None:
        """Take the first of some commands that is due still and that nobody else is at, in a transaction that stays open."""
        while due:
            command_id = due.popleft()
            try:
                if not session.in_transaction():
                    session.begin()
                    CommandRows.within(session, self.worker.tables).begin_writing()
                rows = CommandRows.within(session, self.worker.tables)
                claimed = rows.claim(command_id, longest_idle=self.worker.pace.longest_call)
            except DBAPIError as error:
                if not is_conflict(error):  # above READ COMMITTED, what another worker has done meanwhile is one
                    raise
                session.rollback()
                continue
            if claimed is not None:
                self._last_news = time.monotonic()
                return claimed
        session.rollback()
        return None

    def attempt(self, due: DueCommand) -> Attempt:
        """Read a command that was claimed.

        Raises:
            CommandPayloadError: It does not fit its class.
        """
        handler = handlers_on(self.worker.tables)[due.command_type]
        command = handler.commands_as_json.read(due.data)
        return Attempt(handler, command, due.command_id, self.worker.tables, is_kept=True, given_with=due.context)

    def note_failure(self, session: Session, due: DueCommand, error: Exception) -> None:
        """Store that a command failed, and commit: it is tried again, or parked.

        Where the database cannot be reached, that is what this raises, and nothing is held against the command. An error that only
        looks like that, as of another database that the handler works with, is the handler's.
        """
        is_attempt = meaning_of(error) is not Meaning.TRY_LATER
        attempts = due.attempts + int(is_attempt)
        retries = self.worker.retries
        is_final = is_attempt and (isinstance(error, DomainRuleError | CommandPayloadError) or attempts >= retries.attempts)
        pause = retries.pause(attempts) if is_attempt else timedelta(seconds=self.worker.pace.longest_wait)
        rows = CommandRows.within(session, self.worker.tables)
        is_noted = rows.note_failure(due.command_id, error_text(error), is_attempt=is_attempt, pause=None if is_final else pause)
        session.commit()
        if is_noted:
            what = "is parked" if is_final else f"is tried again in {pause.total_seconds():.1f} s"
            log.error("the %s %s has failed and %s: %s", due.command_type, due.command_id, what, message_of(error))

    def after_outage(self, error: Exception) -> float:
        """Give the seconds until the next attempt to work with the database.

        Raises:
            Exception: *error* itself, where no pause mends it.
        """
        if meaning_of(error) not in (Meaning.SERVER_AWAY, Meaning.TRY_LATER):
            raise error
        self._outage = min(max(2 * self._outage, _FIRST_OUTAGE), self.worker.pace.longest_outage)
        log.warning("scheduled commands cannot be worked with; next attempt in %.1f s: %s", self._outage, message_of(error))
        return self._outage


class DueCommands(Companion):
    """Runs scheduled commands in a worker's thread."""

    name = NAME

    def __init__(self, worker: Companionship) -> None:
        """Take the worker's sessions."""
        self._sessions = worker.sessions
        self._turns = _Turns(worker, awaits=False)
        self._news = threading.Event()

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Run commands when they are due."""
        forget = on_scheduled(self.wake)
        try:
            while not is_stopping():
                self._news.clear()
                self._wait(self._run_due(is_stopping), is_stopping)
        finally:
            forget()

    def run_once(self) -> None:
        """Run the commands that are due."""
        while self._run_some(lambda: False) is None:
            pass

    def wake(self) -> None:
        """Look at once."""
        self._news.set()

    def _run_due(self, is_stopping: Callable[[], bool]) -> float:
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
                except Exception as error:  # noqa: BLE001 - whatever a handler raises
                    session.rollback()
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

    def _wait(self, pause: float, is_stopping: Callable[[], bool]) -> None:
        end = time.monotonic() + pause
        while not is_stopping() and (left := end - time.monotonic()) > 0:
            if self._news.wait(min(left, _LOOK_UP)):
                return


class AsyncDueCommands(AsyncCompanion):
    """Runs scheduled commands in a task of an asynchronous worker."""

    name = NAME

    def __init__(self, worker: Companionship) -> None:
        """Take the worker's sessions."""
        self._sessions = worker.sessions
        self._turns = _Turns(worker, awaits=True)

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
                pause = await self._run_due(stop)
                woken = asyncio.create_task(news.wait())
                await asyncio.wait((stopping, woken), timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
        finally:
            forget()
            stopping.cancel()

    async def _run_due(self, stop: asyncio.Event) -> float:
        try:
            while not stop.is_set():
                async with self._sessions() as session:
                    due, pause = await session.run_sync(self._turns.look)
                has_run = False
                while not stop.is_set() and await self._take(due):
                    has_run = True
                if not has_run:
                    return float(pause)
        except Exception as error:  # noqa: BLE001 - raised again, unless the database is away
            return self._turns.after_outage(error)
        return 0.0

    async def _take(self, due: deque[UUID]) -> bool:
        for pause in (*pauses_between(_RACES), None):
            async with self._sessions() as session:
                claimed: DueCommand | None = await session.run_sync(self._turns.claim, due)
                if claimed is None:
                    return False
                try:
                    await self._handle(session, claimed)
                except Exception as error:  # noqa: BLE001 - whatever a handler raises
                    await session.rollback()
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
                result = await self._result(attempt, session)
            await session.run_sync(attempt.finish, result)

    @staticmethod
    async def _result(attempt: Attempt, session: AsyncSession) -> Any:
        """Call the handler; a task of its own that was cancelled is its failure, not the end of this one.

        Raises:
            RuntimeError: It waited for a task that was cancelled.
        """
        try:
            return await attempt.call(session)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RuntimeError("the handler waited for a task that was cancelled") from error


def due_commands(worker: Companionship) -> DueCommands | None:
    """Run the scheduled commands of a base beside a worker, if it has a table of commands."""
    return None if worker.tables.commands is None else DueCommands(worker)


def async_due_commands(worker: Companionship) -> AsyncDueCommands | None:
    """Run the scheduled commands of a base beside an asynchronous worker, if it has a table of commands."""
    return None if worker.tables.commands is None else AsyncDueCommands(worker)
