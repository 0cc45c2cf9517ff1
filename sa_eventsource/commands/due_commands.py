"""Running scheduled commands: what a worker does about them, in a thread or a task beside following the log.

Commands are claimed, handled and marked as done in one transaction: whoever dies meanwhile has done nothing, and another worker
takes them at once. Those that are due together share a transaction, for a turn; if one of them fails, all is rolled back and they
go on one by one, so that a failure is noted where it belongs. Workers share the commands by ``SKIP LOCKED``; on SQLite, the one
that writes is alone. Which time it is, the database says. When nothing is due, it is asked again when the next command is, or
sooner: one that is due before may be scheduled elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from sa_eventsource.commands.attempt import Attempt
from sa_eventsource.commands.command_handlers import handlers_on
from sa_eventsource.commands.command_rows import CommandRows
from sa_eventsource.commands.pauses import pauses_between
from sa_eventsource.commands.scheduling import on_scheduled
from sa_eventsource.exceptions import CommandPayloadError, DomainRuleError
from sa_eventsource.projections import error_text
from sa_eventsource.session import is_conflict
from sa_eventsource.store import Meaning, meaning_of, message_of
from sa_eventsource.workers import AsyncCompanion, Companion, Companionship

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from sa_eventsource.commands.command_rows import DueCommand, Outcome

log = logging.getLogger("sa_eventsource.worker")

NAME = "commands"

_LOOK_UP = 0.1
"""Seconds between two looks whether to stop."""

_QUIET_SHARE = 10
"""The pause is this part of the time for which nothing was due."""

_MOST = 100
_GROWTH = 4
"""How many commands share a transaction at most, and by which factor one may take more than the one before."""

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
    _limit: int = field(default=1, init=False)
    _said: set[str] = field(default_factory=set, init=False)

    def types(self) -> list[str]:
        """List the stored names of the commands that can be run here; others are left to those who can."""
        handlers = handlers_on(self.worker.tables)
        for name, handler in handlers.items():
            if handler.is_coroutine_function and not self.awaits and name not in self._said:
                self._said.add(name)
                log.warning("scheduled commands %s are left alone: their handler is a coroutine function, for an AsyncWorker", name)
        return sorted(name for name, each in handlers.items() if self.awaits or not each.is_coroutine_function)

    def pause(self, session: Session) -> float:
        """Ask for how many seconds there is nothing to do; 0 if there is."""
        until_due = CommandRows.within(session, self.worker.tables).seconds_until_due(self.types())
        session.rollback()
        self._outage = 0.0
        pace = self.worker.pace
        quiet = max(pace.shortest, min(pace.longest, (time.monotonic() - self._last_news) / _QUIET_SHARE))
        return quiet if until_due is None else max(0.0, min(quiet, until_due))

    def claim(self, session: Session, command_id: UUID | None) -> list[DueCommand]:
        """Take commands that are due, in a transaction that stays open."""
        session.begin()
        rows = CommandRows.within(session, self.worker.tables)
        due = rows.claim_due(self.types(), self._limit, command_id)
        if due:
            rows.database.limit_waits(rows.connection, for_locks=None, idle=self.worker.pace.longest_call)
            self._last_news = time.monotonic()
        return due

    def is_over(self) -> bool:
        """Whether those that were claimed last have had their turn; the others are left for the next time."""
        return time.monotonic() - self._last_news > self.worker.pace.turn

    def finish(self, session: Session, outcomes: Sequence[Outcome]) -> None:
        """Store what came of those that were claimed, and commit."""
        CommandRows.within(session, self.worker.tables).note_done(outcomes)
        session.commit()
        self._limit = min(self._limit * _GROWTH, _MOST)

    def go_on_singly(self, due: Sequence[DueCommand]) -> bool:
        """Take one at a time from now on, if there were more; it is not known which of them has failed."""
        self._limit = 1
        return len(due) > 1

    def attempt(self, session: Session, due: DueCommand) -> Attempt:
        """Read a command that was claimed.

        Raises:
            CommandPayloadError: It does not fit its class.
        """
        handler = handlers_on(self.worker.tables)[due.command_type]
        command = handler.commands_as_json.read(due.data)
        attempt = Attempt(handler, command, due.command_id, self.worker.tables, is_kept=True, given_with=due.context)
        attempt.take_over(session)
        return attempt

    def note_failure(self, session: Session, due: DueCommand, error: Exception) -> None:
        """Store that a command failed, and commit: it is tried again, or parked.

        Raises:
            Exception: *error* itself, where it says nothing of the command.
        """
        meaning = meaning_of(error)
        if meaning in (Meaning.SERVER_AWAY, Meaning.GIVE_UP):
            raise error
        is_attempt = meaning is not Meaning.TRY_LATER
        attempts = due.attempts + int(is_attempt)
        retries = self.worker.retries
        is_final = is_attempt and (isinstance(error, DomainRuleError | CommandPayloadError) or attempts >= retries.attempts)
        pause = retries.pause(attempts) if is_attempt else timedelta(seconds=self.worker.pace.longest_wait)
        rows = CommandRows.within(session, self.worker.tables)
        rows.note_failure(due.command_id, error_text(error), is_attempt=is_attempt, pause=None if is_final else pause)
        session.commit()
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
        while self._take():
            pass

    def wake(self) -> None:
        """Look at once."""
        self._news.set()

    def _run_due(self, is_stopping: Callable[[], bool]) -> float:
        """Run what is due; give the seconds until something may be."""
        try:
            while not is_stopping():
                with self._sessions() as session:
                    pause = self._turns.pause(session)
                if pause > 0:
                    return pause
                while not is_stopping() and self._take():
                    pass
        except Exception as error:  # noqa: BLE001 - raised again, unless the database is away
            return self._turns.after_outage(error)
        return 0.0

    def _take(self) -> bool:
        """Run a command that is due; False if there is none."""
        command_id = None
        for pause in (*pauses_between(_RACES), None):
            with self._sessions() as session:
                due = self._turns.claim(session, command_id)
                if not due:
                    return command_id is not None
                try:
                    self._handle(session, due)
                except Exception as error:  # noqa: BLE001 - whatever a handler raises
                    session.rollback()
                    if self._turns.go_on_singly(due):
                        return True
                    if pause is None or not is_conflict(error):
                        self._turns.note_failure(session, due[0], error)
                        return True
                else:
                    return True
            command_id = due[0].command_id
            time.sleep(pause)
        return True

    def _handle(self, session: Session, due: Sequence[DueCommand]) -> None:
        outcomes: list[Outcome] = []
        for each in due:
            attempt = self._turns.attempt(session, each)
            with attempt.context(session):
                with attempt.at_work(session):
                    result = attempt.handler.call(attempt.command, session)
                outcomes.append(attempt.outcome(session, result))
            if self._turns.is_over():
                break
        self._turns.finish(session, outcomes)

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
                    pause: float = await session.run_sync(self._turns.pause)
                if pause > 0:
                    return pause
                while not stop.is_set() and await self._take():
                    pass
        except Exception as error:  # noqa: BLE001 - raised again, unless the database is away
            return self._turns.after_outage(error)
        return 0.0

    async def _take(self) -> bool:
        command_id = None
        for pause in (*pauses_between(_RACES), None):
            async with self._sessions() as session:
                due: list[DueCommand] = await session.run_sync(self._turns.claim, command_id)
                if not due:
                    return command_id is not None
                try:
                    await self._handle(session, due)
                except Exception as error:  # noqa: BLE001 - whatever a handler raises
                    await session.rollback()
                    if self._turns.go_on_singly(due):
                        return True
                    if pause is None or not is_conflict(error):
                        await session.run_sync(self._turns.note_failure, due[0], error)
                        return True
                else:
                    return True
            command_id = due[0].command_id
            await asyncio.sleep(pause)
        return True

    async def _handle(self, session: AsyncSession, due: Sequence[DueCommand]) -> None:
        outcomes: list[Outcome] = []
        for each in due:
            attempt = self._turns.attempt(session.sync_session, each)
            with attempt.context(session.sync_session):
                with attempt.at_work(session.sync_session):
                    result = await attempt.call(session)
                outcomes.append(await session.run_sync(attempt.outcome, result))
            if self._turns.is_over():
                break
        await session.run_sync(self._turns.finish, outcomes)


def due_commands(worker: Companionship) -> DueCommands | None:
    """Run the scheduled commands of a base beside a worker, if it has a table of commands."""
    return None if worker.tables.commands is None else DueCommands(worker)


def async_due_commands(worker: Companionship) -> AsyncDueCommands | None:
    """Run the scheduled commands of a base beside an asynchronous worker, if it has a table of commands."""
    return None if worker.tables.commands is None else AsyncDueCommands(worker)
