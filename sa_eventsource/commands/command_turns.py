"""What running scheduled commands is made of, in a thread and in a task: the statements, and how long to wait between them."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from sa_eventsource.commands.attempt import Attempt
from sa_eventsource.commands.command_handlers import handlers_on
from sa_eventsource.commands.command_rows import CommandRows
from sa_eventsource.exceptions import CommandPayloadError, DomainRuleError
from sa_eventsource.projections import Clearances, error_text, kinds_that_may_run
from sa_eventsource.session import is_conflict
from sa_eventsource.store import Meaning, is_schema_mismatch, meaning_of, message_of, name_in_log, passes

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session

    from sa_eventsource.commands.command_rows import DueCommand, NextCommand
    from sa_eventsource.workers import Companionship

log = logging.getLogger("sa_eventsource.worker")

_QUIET_SHARE = 10
"""The pause is this part of the time for which nothing was due."""

_AT_A_LOOK = 100
"""How many commands that are due one look finds."""

_BETWEEN_WARNINGS = 60.0
"""Seconds after which it is asked again whether commands are due that nobody here can run."""

_FIRST_OUTAGE = 0.1


@dataclass(slots=True)
class CommandTurns:
    """What threads and tasks have in common: the statements, and how long to wait.

    Attributes:
        worker: Whose companion it is.
        awaits: Whether handlers that are coroutine functions can be called.
        is_listening: Whether the worker hears of commits, so that it need not look so often.
    """

    worker: Companionship
    awaits: bool
    is_listening: bool = False
    _last_news: float = field(default_factory=time.monotonic, init=False)
    _outage: float = field(default=0.0, init=False)
    _said: set[str] = field(default_factory=set, init=False)
    _warned_at: float = field(default=float("-inf"), init=False)
    _clearances: Clearances = field(init=False)
    _holds_back: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Know nothing yet of process managers."""
        self._clearances = Clearances(self.worker.tables)

    def types(self) -> list[str]:
        """List the stored names of the commands that can be run here; others are left to those who can."""
        handlers = handlers_on(self.worker.tables)
        return sorted(name for name, each in handlers.items() if self.awaits or not each.is_coroutine_function)

    def look(self, session: Session) -> tuple[deque[UUID], float]:
        """Look for commands that are due, and tell after how many seconds to look again where none is, or all are others'."""
        rows, types = CommandRows.within(session, self.worker.tables), self.types()
        found, holds_back = rows.next_due(types, _AT_A_LOOK), False
        processes = rows.due_processes() if any(each.is_due and each.process_type is not None for each in found) else []
        self._warn_of_those_left_alone(rows)
        session.rollback()
        if processes:
            due = {each.command_id for each in found if each.is_due}
            found = self._without_waiting(session, types, processes, found[0].now)
            holds_back = not due.issubset(each.command_id for each in found)
        if holds_back and not self._holds_back:  # the process manager may be at it: look again soon
            self._last_news = time.monotonic()
        self._outage, self._holds_back = 0.0, holds_back
        due_now, pace = deque(each.command_id for each in found if each.is_due), self.worker.pace
        longest = pace.listening if self.is_listening and not holds_back else pace.longest  # checkpoints are not announced
        quiet = max(pace.shortest, min(longest, (time.monotonic() - self._last_news) / _QUIET_SHARE))
        if due_now or not found:
            return due_now, quiet
        return due_now, max(0.0, min(quiet, (found[0].due_at - found[0].now).total_seconds()))

    def _without_waiting(self, session: Session, types: list[str], processes: list[str], now: datetime) -> list[NextCommand]:
        """Look once more, without the time-outs that wait for what their process managers have yet to take."""
        clearances = self._clearances.find(session, processes, now)
        rows = CommandRows.within(session, self.worker.tables)
        found = rows.next_due(types, _AT_A_LOOK, kinds_that_may_run(self.worker.tables, clearances))
        session.rollback()
        return found

    def _warn_of_those_left_alone(self, rows: CommandRows) -> None:
        """Say, once of each type and not at every look, that commands are due whose handlers need another kind of worker."""
        if self.awaits or time.monotonic() < self._warned_at + _BETWEEN_WARNINGS:
            return
        handlers = handlers_on(self.worker.tables)
        left = [name for name, each in handlers.items() if each.is_coroutine_function and name not in self._said]
        if not left:
            return
        self._warned_at = time.monotonic()
        for name in rows.due_types(left):
            self._said.add(name)
            log.warning("scheduled commands %s are left alone: their handler is a coroutine function, for an AsyncWorker", name)

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

    def note_failure(self, session: Session, due: DueCommand, error: BaseException) -> None:
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
            which = name_in_log(f"the {due.command_type} {due.command_id}", session)
            log.error("%s has failed and %s: %s", which, what, message_of(error))

    def after_outage(self, error: Exception) -> float:
        """Give the seconds until the next attempt to work with the database.

        Raises:
            Exception: *error* itself, where no pause mends it.
        """
        # A table that the coming migration makes is not there yet: the followers beside go on meanwhile.
        if not passes(error) and not is_schema_mismatch(error):
            raise error
        self._outage = min(max(2 * self._outage, _FIRST_OUTAGE), self.worker.pace.longest_outage)
        log.warning("scheduled commands cannot be worked with; next attempt in %.1f s: %s", self._outage, message_of(error))
        return self._outage
