"""One attempt at a command: what happens before its handler is called, and after, in one transaction of a session."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from sa_eventsource.commands.command_rows import CommandRows, result_of
from sa_eventsource.consumers import keeping_transaction, within_transaction
from sa_eventsource.events import EventContext, current_context, difference, within_context
from sa_eventsource.exceptions import CommandDiscardedError, CommandIdConflictError, CommandPayloadError
from sa_eventsource.mapping import DISCARDED, DONE
from sa_eventsource.session import last_event_written
from sa_eventsource.store import CONTEXT_KEY, database_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from pydantic import BaseModel
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from sa_eventsource.commands.command_handlers import CommandHandler
    from sa_eventsource.commands.command_rows import CommandRow
    from sa_eventsource.mapping import EventSourceTables

R = TypeVar("R", default=Any)

TABLES = "sa_eventsource.commands"
_ATTEMPT = "sa_eventsource.attempt"
"""Keys in a session's ``info``: the tables of the base whose command is handled in it, and the attempt."""


@dataclass(frozen=True, slots=True)
class Handled(Generic[R]):
    """What handling a command gave.

    Attributes:
        command_id: The command's id: the one that was given, or the one that its events have as their causation id.
        result: What the handler returned; the first time, if the command was handled before.
        token: The token of the commit, for ``wait_for``; None if it wrote no events.
        is_repetition: Whether the command was handled before, so that nothing was done now.
    """

    command_id: UUID
    result: R
    token: UUID | None
    is_repetition: bool = False


@dataclass(slots=True)
class Attempt:
    """One attempt at a command.

    Attributes:
        handler: Who handles it.
        command: The command.
        command_id: Its id.
        tables: The library's tables.
        is_kept: Whether it has a row, so that it is done once.
        given_with: The context that it was scheduled with; None to take that in force.
        is_committed: Whether what it has done is committed: whatever is raised since, it is not to be done again.
    """

    handler: CommandHandler
    command: BaseModel
    command_id: UUID
    tables: EventSourceTables
    is_kept: bool
    given_with: EventContext | None = None
    is_committed: bool = field(default=False, init=False)
    _outer: EventContext = field(default_factory=EventContext, init=False)

    @contextmanager
    def context(self, session: Session) -> Iterator[None]:
        """Give all that is applied in the block the command's context: it is the cause, unless nobody could look it up.

        What is scheduled in the session goes into the same table.
        """
        self._outer = context_of(session) if self.given_with is None else self.given_with
        cause = self.command_id if self.is_kept or self._outer.causation_id is None else self._outer.causation_id
        session.info[TABLES], session.info[_ATTEMPT] = self.tables, self
        with within_context(EventContext(self._outer.correlation_id or self.command_id, cause, self._outer.metadata)):
            yield

    def begin(self, session: Session) -> Handled[Any] | None:
        """Begin the transaction; give what the command gave, if it is done already.

        Raises:
            CommandIdConflictError: The id is another command's.
            CommandPayloadError: The command would not come back exactly.
        """
        if not session.in_transaction():
            session.begin()
        if not self.is_kept:
            become_writer(session, self.tables)
            return None
        data = self.handler.commands_as_json.write(self.command)
        rows = CommandRows.within(session, self.tables)
        while not rows.insert_done(self.command_id, self.handler.command_type, data, self._outer):
            row = rows.lock(self.command_id)
            if row is not None:  # else it was pruned just now
                return self._first_outcome(row)
        return None

    @contextmanager
    def at_work(self, session: Session) -> Iterator[None]:
        """Let the handler work within the block, whose transaction stays open.

        Raises:
            HandlerTransactionError: The handler has committed or rolled back.
        """
        connection = session.connection(bind_arguments=self.tables.bind_arguments)
        with keeping_transaction(session), within_transaction(session, connection):
            yield

    async def call(self, session: AsyncSession) -> Any:
        """Call the handler, whichever kind it is."""
        if self.handler.is_coroutine_function:
            return await self.handler.function(self.command, session)
        return await session.run_sync(lambda sync_session: self.handler.call(self.command, sync_session))

    def finish(self, session: Session, result: Any) -> Handled[Any]:
        """Write what the handler has done, and that it is done, and commit.

        Raises:
            CommandPayloadError: The result would not come back exactly.
        """
        session.flush()
        while (savepoint := session.get_nested_transaction()) is not None:  # that the handler has left open
            savepoint.commit()
        token = last_event_written(session)
        if self.is_kept:
            text = self.handler.results_as_json.write(result)
            CommandRows.within(session, self.tables).note_done(self.command_id, text, token)
        session.commit()
        return Handled(self.command_id, result, token)

    def _first_outcome(self, row: CommandRow) -> Handled[Any] | None:
        refuse_another(self.command_id, row, self.handler, self.command)
        if row.status == DISCARDED:
            raise CommandDiscardedError(self.command_id, row.command_type)
        if row.status != DONE or row.outcome is None:  # else its handler ended the transaction, and was not done
            return None
        result = self.handler.results_as_json.read(result_of(row.outcome))
        return Handled(self.command_id, result, row.token, is_repetition=True)


def after_commit(session: Session) -> None:
    """Note that what a handler has done is committed, before anybody is told of it, who may fail."""
    attempt: Attempt | None = session.info.get(_ATTEMPT)
    if attempt is not None and session.get_nested_transaction() is None:
        attempt.is_committed = True


def become_writer(session: Session, tables: EventSourceTables) -> None:
    """Have what a handler reads hold until it writes, where one writer at a time is all there is: SQLite refuses to wait then."""
    connection = session.connection(bind_arguments=tables.bind_arguments)
    database = database_of(connection.dialect)
    database.begin(connection)
    database.become_writer(connection, tables.events)


def context_of(session: Session) -> EventContext:
    """Get the context in force, and that of the session around it."""
    return current_context().merged_over(session.info.get(CONTEXT_KEY, EventContext()))


def refuse_another(command_id: UUID, row: CommandRow, handler: CommandHandler, command: BaseModel) -> None:
    """Refuse a command whose id another one has.

    They are compared as the class reads them now, which may have got a field with a default since.

    Raises:
        CommandIdConflictError: It has.
    """
    with suppress(CommandPayloadError):
        if row.command_type == handler.command_type and difference(command, handler.commands_as_json.read(row.data)) is None:
            return
    raise CommandIdConflictError(command_id, command_type=row.command_type, given_type=handler.command_type)
