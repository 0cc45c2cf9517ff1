"""``Commands``: opens a session, calls the handler of a command, commits, and does it again if another transaction wrote first."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from sa_eventsource.arguments import check_age, check_timeout, check_uuid, whole_number
from sa_eventsource.commands.attempt import Attempt
from sa_eventsource.commands.command_handlers import handler_of
from sa_eventsource.commands.command_rows import require_table
from sa_eventsource.commands.pauses import pauses_between
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import async_session_maker, old_commands, session_maker, tables_of_base
from sa_eventsource.projections import async_wait_for, wait_for
from sa_eventsource.read_models import definition_of
from sa_eventsource.session import is_conflict
from sa_eventsource.time_ordered_ids import uuid7
from sa_eventsource.workers import delete_some

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from pydantic import BaseModel
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
    from sqlalchemy.orm import Session, sessionmaker

    from sa_eventsource.commands.attempt import Handled
    from sa_eventsource.commands.command import Command, R

Models: TypeAlias = "type[Any] | Sequence[type[Any]]"


class _Prepared:
    """What is the same for both kinds of sessions."""

    def __init__(self, name: str, base: Any, attempts: int) -> None:
        self._tables = tables_of_base(name, base)
        self._attempts = whole_number("attempts", attempts, minimum=1, meaning="how often to run a handler at most, 1 or more")

    def _attempt(self, command: BaseModel, command_id: UUID | None) -> Attempt:
        if command_id is not None:
            check_uuid("command_id", command_id)
            require_table(self._tables)
        return Attempt(
            handler_of(command, self._tables), command, command_id or uuid7(), self._tables, is_kept=command_id is not None
        )

    def _models(self, given: Models, timeout: float) -> Sequence[type[Any]]:
        """Take the read models to wait for, one or several, and check all that could be wrong: nothing is done so far.

        Raises:
            DeclarationError: One is no mapped read model, or one of another log.
            TypeError, ValueError: *timeout* is no number of seconds.
        """
        check_timeout(timeout)
        models: Sequence[Any] = (given,) if isinstance(given, type | str) else tuple(given)
        for model in models:
            if definition_of(model).tables is not self._tables:
                raise DeclarationError(
                    f"{model.__name__} is a read model of another declarative base than that of the commands, and takes none of "
                    "their events: there is nothing to wait for"
                )
        return models


class Commands(_Prepared):
    """Handles commands, each in a session and a transaction of its own.

    Example::

        commands = Commands(sessionmaker(engine), Base)
        order_id = commands.handle(PlaceOrder(customer_id="c-1", total=Decimal(10))).result

    It may be shared by threads.
    """

    def __init__(self, sessions: Engine | sessionmaker[Session], base: Any, *, attempts: int = 5) -> None:
        """Choose the database and the handlers.

        Args:
            sessions: An engine, or what makes sessions.
            base: The declarative base.
            attempts: How often a handler is run at most when other transactions are faster.
        """
        super().__init__("Commands()", base, attempts)
        self._sessions = session_maker("Commands()", sessions)

    @overload
    def handle(
        self, command: Command[R], *, command_id: UUID | None = ..., wait_for: Models = ..., timeout: float = ...
    ) -> Handled[R]: ...
    @overload
    def handle(
        self, command: BaseModel, *, command_id: UUID | None = ..., wait_for: Models = ..., timeout: float = ...
    ) -> Handled[Any]: ...
    def handle(
        self, command: BaseModel, *, command_id: UUID | None = None, wait_for: Models = (), timeout: float = 5.0
    ) -> Handled[Any]:
        """Handle a command: all that its handler does is committed, or nothing.

        Its events have the command's id as their causation id, and as their correlation id where none is in force; who and why come
        from ``event_context`` around the call, or from the session's ``info``. Where another transaction wrote first
        (``ConcurrencyError``, serialization failures, deadlocks), the handler is run again in another session, after a pause.
        What is raised once all is committed, as by a listener to ``after_commit``, is raised, and nothing is run again.

        With an id, the command is done once, however often and by however many it is handled: a row of the table of commands is
        committed with what the handler does, and whoever comes later, or waits meanwhile, gets the outcome. A handler that raises
        leaves no row, and may be tried again. The result must be one that JSON holds exactly.

        Args:
            command: The command.
            command_id: The id that the caller has chosen, and keeps for repetitions; None for a command that is not kept.
            wait_for: A read model, or several, that are to have taken the events before this returns.
            timeout: Seconds to wait for each of them at most.

        Returns:
            The handler's result, and the token of the commit.

        Raises:
            UnknownCommandError: It has no handler.
            CommandIdConflictError: The id is another command's.
            CommandPayloadError: With an id: the command or the result could not be stored exactly. Nothing was done.
            ConcurrencyError: The last attempt lost as well; so may be a ``DBAPIError`` for a serialization failure or a deadlock.
            ReadModelLagError: The command is done, and a read model is late. Handled again under its id, it gives the outcome.
            HandlerTransactionError: The handler committed or rolled back.
            DeclarationError: The base has no table of commands, and *command_id* is given.
            TypeError: The handler is a coroutine function, or an argument is of the wrong type.
        """
        attempt, models = self._attempt(command, command_id), self._models(wait_for, timeout)
        if attempt.handler.is_coroutine_function:
            raise TypeError(f"the handler of {attempt.handler.command_type} is a coroutine function; use AsyncCommands")
        for pause in pauses_between(self._attempts):
            try:
                return self._run(attempt, models, timeout)
            except Exception as error:
                if attempt.is_committed or not is_conflict(error):
                    raise
            time.sleep(pause)
        return self._run(attempt, models, timeout)

    def prune(self, *, older_than: timedelta) -> int:
        """Forget commands that were done long ago: under its id, such a command would be done again.

        Keep them for longer than anybody may repeat one. Each ten thousand rows are a transaction; scheduled and parked commands
        stay. A worker does it by itself where ``EventSourceOptions(commands_kept=timedelta(days=30))`` says so.

        Args:
            older_than: For how long they have been done at least.

        Returns:
            The number of rows that were deleted.

        Raises:
            DeclarationError: The base has no table of commands.
            TypeError: *older_than* is no ``timedelta``.
            ValueError: It is negative.
        """
        check_age(older_than)
        old, deleted = old_commands(require_table(self._tables), older_than), 0
        with self._sessions() as session:
            while number := delete_some(session, old, older_than, self._tables.bind_arguments):
                deleted += number
        return deleted

    def _run(self, attempt: Attempt, models: Sequence[type[Any]], timeout: float) -> Handled[Any]:
        with self._sessions() as session:
            with attempt.context(session):
                handled = _act(attempt, session)
            session.rollback()  # where it was done before
            if handled.token is not None:
                for model in models:
                    wait_for(session, model, after=handled.token, timeout=timeout)
            return handled


class AsyncCommands(_Prepared):
    """:class:`Commands` on asynchronous sessions.

    Handlers that are coroutine functions get the ``AsyncSession``; plain ones get a ``Session`` whose calls do not block the event
    loop.
    """

    def __init__(self, sessions: async_sessionmaker[AsyncSession], base: Any, *, attempts: int = 5) -> None:
        """Choose the database and the handlers. As :class:`Commands`."""
        super().__init__("AsyncCommands()", base, attempts)
        self._sessions = async_session_maker("AsyncCommands()", sessions, instead="Commands")

    @overload
    async def handle(
        self,
        command: Command[R],
        *,
        command_id: UUID | None = ...,
        wait_for: Models = ...,
        timeout: float = ...,  # noqa: ASYNC109 - see below
    ) -> Handled[R]: ...
    @overload
    async def handle(
        self,
        command: BaseModel,
        *,
        command_id: UUID | None = ...,
        wait_for: Models = ...,
        timeout: float = ...,  # noqa: ASYNC109 - see below
    ) -> Handled[Any]: ...
    async def handle(
        self,
        command: BaseModel,
        *,
        command_id: UUID | None = None,
        wait_for: Models = (),
        timeout: float = 5.0,  # noqa: ASYNC109 - as that of wait_for
    ) -> Handled[Any]:
        """Handle a command. As :meth:`Commands.handle`."""
        attempt, models = self._attempt(command, command_id), self._models(wait_for, timeout)
        for pause in pauses_between(self._attempts):
            try:
                return await self._run(attempt, models, timeout)
            except Exception as error:
                if attempt.is_committed or not is_conflict(error):
                    raise
            await asyncio.sleep(pause)
        return await self._run(attempt, models, timeout)

    async def prune(self, *, older_than: timedelta) -> int:
        """Forget commands that were done long ago. As :meth:`Commands.prune`."""
        check_age(older_than)
        old, deleted = old_commands(require_table(self._tables), older_than), 0
        async with self._sessions() as session:
            while number := await session.run_sync(delete_some, old, older_than, self._tables.bind_arguments):
                deleted += number
        return deleted

    async def _run(self, attempt: Attempt, models: Sequence[type[Any]], limit: float) -> Handled[Any]:
        async with self._sessions() as session:
            with attempt.context(session.sync_session):
                handled = await _act_asynchronously(attempt, session)
            await session.rollback()  # where it was done before
            if handled.token is not None:
                for model in models:
                    await async_wait_for(session, model, after=handled.token, timeout=limit)
            return handled


def _act(attempt: Attempt, session: Session) -> Handled[Any]:
    earlier = attempt.begin(session)
    if earlier is not None:
        return earlier
    with attempt.at_work(session):
        result = attempt.handler.call(attempt.command, session)
    return attempt.finish(session, result)


async def _act_asynchronously(attempt: Attempt, session: AsyncSession) -> Handled[Any]:
    earlier = await session.run_sync(attempt.begin)
    if earlier is not None:
        return earlier
    with attempt.at_work(session.sync_session):
        result = await attempt.call(session)
    return await session.run_sync(attempt.finish, result)
