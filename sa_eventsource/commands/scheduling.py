"""Commands for later: written in the transaction of the events that they follow from, run by a worker when they are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sa_eventsource.arguments import LATEST, check_moment_of_event, check_uuid
from sa_eventsource.commands.attempt import TABLES, context_of, refuse_another
from sa_eventsource.commands.command_handlers import handler_of
from sa_eventsource.commands.command_rows import CommandRows
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import (
    MAX_NAME_LENGTH,
    all_tables,
    check_async_session,
    session_of,
    tables_of_base,
)
from sa_eventsource.time_ordered_ids import uuid7
from sa_eventsource.workers import announce_commit

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from pydantic import BaseModel
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    from sa_eventsource.mapping import EventSourceTables

_SCHEDULED = "sa_eventsource.scheduled"

CATCH = "sa_eventsource.catch_scheduled"
"""Key in a session's ``info``: a test's function that takes what is scheduled, in place of the table."""

_listeners: dict[Callable[[], None], None] = {}
"""Those in this process who run what is scheduled."""


def schedule(  # noqa: PLR0913 - most of them are options
    session: Session | scoped_session[Session],
    command: BaseModel,
    *,
    at: datetime | None = None,
    after: timedelta | None = None,
    key: str | None = None,
    command_id: UUID | None = None,
    base: Any = None,
) -> UUID:
    """Have a command handled later, by a worker, once what the session has done is committed; never if it is rolled back.

    Example::

        order = Order.place(...)
        session.add(order)
        schedule(session, CancelUnpaidOrder(order_id=order.id), after=timedelta(minutes=30))
        session.commit()

    It is handled as by :class:`~sa_eventsource.Commands`: what its handler does, and that it is done, are committed together. It
    may be out of date by then: the handler looks at the state and does nothing if so. Its events have the command as their cause,
    and the correlation id and metadata of the context in which it was scheduled.

    A handler that raises is tried again with growing pauses (:class:`~sa_eventsource.RetryPolicy`), and then parked; at once if
    what it raises is a :class:`~sa_eventsource.DomainRuleError`.

    Args:
        session: The session; in an async one, see :func:`async_schedule`.
        command: The command. A handler must be declared.
        at: When, with a time zone.
        after: How long from now, by the database's clock. Without *at* and *after*: as soon as a worker comes to it.
        key: A name for its place: what is scheduled under the same key, and not yet begun, is replaced, and never done.
        command_id: Its id, where the caller may schedule it again: under an id it is there once. None for a new one.
        base: The declarative base; None for that of the command being handled in the session, or the only one that has a table of
            commands.

    Returns:
        The command's id.

    Raises:
        UnknownCommandError: It has no handler.
        CommandPayloadError: It could not be stored exactly.
        CommandIdConflictError: The id is another command's.
        DeclarationError: There is no table of commands, or several, and *base* is not given.
        TypeError: An argument is of the wrong type, or both *at* and *after* are given.
        ValueError: *at* has no time zone, *after* is negative, either lies beyond the year 9999, or *key* is empty or longer than
            255 characters.
    """
    session = session_of("schedule()", session, instead="async_schedule")
    _check_time(at, after)
    _check_key(key)
    if command_id is not None:
        check_uuid("command_id", command_id)
    new_id = command_id or uuid7()
    _insert(session, _tables(session, base), command, new_id, (after or timedelta(0)) if at is None else at, key, None)
    return new_id


async def async_schedule(  # noqa: PLR0913 - as schedule
    session: AsyncSession,
    command: BaseModel,
    *,
    at: datetime | None = None,
    after: timedelta | None = None,
    key: str | None = None,
    command_id: UUID | None = None,
    base: Any = None,
) -> UUID:
    """Have a command handled later. As :func:`schedule`."""
    check_async_session("async_schedule()", session, instead="schedule")
    return await session.run_sync(schedule, command, at=at, after=after, key=key, command_id=command_id, base=base)


def schedule_time_out(  # noqa: PLR0913 - what a row is made of
    session: Session,
    command: BaseModel,
    tables: EventSourceTables,
    *,
    at: datetime,
    key: str | None,
    command_id: UUID,
    process: tuple[str, str],
) -> None:
    """Have a process's command handled later, as :func:`schedule` does, once the process has taken what was recorded by then.

    Args:
        session: The session.
        command: The command.
        tables: The library's tables.
        at: When it is due.
        key: A name for its place, of at most 255 characters.
        command_id: Its id.
        process: Type and id of the process, as stored.

    Raises:
        UnknownCommandError, CommandPayloadError, CommandIdConflictError, DeclarationError, ValueError: As for :func:`schedule`.
    """
    _check_time(at, None)
    _insert(session, tables, command, command_id, at, key, process)


def after_commit(session: Session) -> None:
    """Wake those who run what was scheduled, here and by announcement elsewhere."""
    if _SCHEDULED in session.info and session.get_nested_transaction() is None and session.info.pop(_SCHEDULED):
        for wake in list(_listeners):
            wake()
        announce_commit()


def on_scheduled(wake: Callable[[], None]) -> Callable[[], None]:
    """Have *wake* called after each commit of this process that has scheduled something, until what this returns is called."""
    _listeners[wake] = None
    return lambda: _listeners.pop(wake, None)


def _insert(  # noqa: PLR0913, PLR0917 - private
    session: Session,
    tables: EventSourceTables,
    command: BaseModel,
    command_id: UUID,
    due: datetime | timedelta,
    key: str | None,
    process: tuple[str, str] | None,
) -> None:
    handler = handler_of(command, tables)
    catch = session.info.get(CATCH)
    if catch is not None:
        catch(command, due, key)
        return
    data = handler.commands_as_json.write(command)
    rows, context = CommandRows.within(session, tables), context_of(session)
    while not rows.insert_scheduled(command_id, handler.command_type, data, context, due, key, process):
        earlier = rows.lock(command_id)
        if earlier is not None:
            refuse_another(command_id, earlier, handler, command)
            return
        if key is not None:  # else it was pruned just now
            rows.make_room(key)
    session.info[_SCHEDULED] = True


def _tables(session: Session, base: Any) -> EventSourceTables:
    if base is not None:
        return tables_of_base("schedule(base=...)", base)
    of_command: EventSourceTables | None = session.info.get(TABLES)
    if of_command is not None:
        return of_command
    known = [each for each in all_tables() if each.commands is not None]
    if len(known) == 1:
        return known[0]
    if known:
        raise DeclarationError("several declarative bases have a table of commands; say which is meant: schedule(..., base=Base)")
    raise DeclarationError(
        "scheduled commands are kept in a table that no declarative base has. Write "
        '__eventsource__ = EventSourceOptions(commands="commands") on the base, and migrate.'
    )


def _check_time(at: Any, after: Any) -> None:
    if at is not None and after is not None:
        raise TypeError("schedule() takes at, a moment, or after, a timedelta, not both")
    if at is not None:
        check_moment_of_event("at", at)
    if after is not None and not isinstance(after, timedelta):
        raise TypeError(f"after must be a timedelta, such as timedelta(minutes=30), not {after!r}")
    if after is not None and after < timedelta(0):
        raise ValueError(f"after must be 0 or more, not {after}")
    if after is not None and after >= LATEST - datetime.now(UTC):
        raise ValueError(f"after={after!r} cannot be read back from a database: it would end later than {LATEST}")


def _check_key(key: Any) -> None:
    if key is None:
        return
    if not isinstance(key, str):
        raise TypeError(f"key must be a str, not {key!r}")
    if not 0 < len(key) <= MAX_NAME_LENGTH or "\x00" in key:
        raise ValueError(f"key must have 1 to {MAX_NAME_LENGTH} characters and no NUL, not {key[:40]!r}")
