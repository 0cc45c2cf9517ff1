"""Reading your own writes: waiting until a read model has taken what a commit wrote."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.util import await_only

from sa_eventsource.arguments import check_timeout
from sa_eventsource.checkpoints import COUNTED, Lag, is_replicated, lag, of_consumer, read_checkpoint
from sa_eventsource.consumers import followers_of
from sa_eventsource.exceptions import CommitTokenError, ReadModelLagError
from sa_eventsource.mapping import check_any_session, check_async_session, session_of
from sa_eventsource.read_models import definition_of
from sa_eventsource.store import beside, database_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    from sa_eventsource.consumers import Follower
    from sa_eventsource.read_models import ReadModelDefinition

_SHORTEST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05

_WANTED = "sa_eventsource.wait_for"


def wait_for(session: Session | scoped_session[Session], model: type[Any], *, after: UUID | str, timeout: float = 5.0) -> None:
    """Wait until a read model has taken the events of a commit.

    Example::

        session.commit()
        wait_for(session, OrderReadModel, after=commit_token(session))

    The session is asked for its database only: the question goes over another connection, and a transaction that the session has in
    progress is left alone; one at REPEATABLE READ does not see the rows before it ends. A strong model need not be waited for. What
    the model has parked (``__on_error__ = "park"``) counts as taken.

    Args:
        session: A session for the database.
        model: The read model.
        after: The commit's token, from :func:`~sa_eventsource.commit_token`, or the id of any of its events.
        timeout: Seconds to wait at most.

    Raises:
        ReadModelLagError: It has not taken them in time. They are committed, and it will.
        CommitTokenError: *after* is a text, and not that of a UUID; or the database has no such event. On a standby or a logical
            replica, where the event may be on its way, that is raised when the time is up, and elsewhere at once.
        DeclarationError: *model* is no mapped read model.
        TypeError: *session* is no ``Session``, or *after* no token.
    """
    session = session_of("wait_for()", session, instead="async_wait_for")
    check_timeout(timeout)
    definition, after = definition_of(model), _token("wait_for()", after)
    pauses = _pauses(timeout)
    while not _has_taken(session, definition, after):
        pause = next(pauses, None)
        if pause is None:
            raise _late(session, definition, after, timeout)
        time.sleep(pause)


async def async_wait_for(session: AsyncSession, model: type[Any], *, after: UUID | str, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - as that of wait_for
    """Wait, without blocking the event loop, until a read model has taken the events of a commit. As :func:`wait_for`."""
    check_async_session("async_wait_for()", session, instead="wait_for")
    check_timeout(timeout)
    definition, after = definition_of(model), _token("async_wait_for()", after)
    pauses = _pauses(timeout)
    while not await session.run_sync(_has_taken, definition, after):
        pause = next(pauses, None)
        if pause is None:
            raise await session.run_sync(_late, definition, after, timeout)
        await asyncio.sleep(pause)


@contextmanager
def waiting_for(session: Any, *models: type[Any], timeout: float = 5.0) -> Iterator[None]:
    """Have each commit in the block return only when read models have taken its events.

    Example::

        with waiting_for(session, OrderReadModel):
            session.add(order)
            session.commit()

    ``session.info["sa_eventsource.wait_for"] = ((OrderReadModel,), 5.0)`` does the same without a block.

    Args:
        session: The ``Session`` or ``AsyncSession``.
        *models: The read models.
        timeout: Seconds to wait at most, for all of them.

    Raises:
        ReadModelLagError: From ``commit()``. The events are committed all the same.
        DeclarationError: One is no mapped read model.
    """
    check_any_session("waiting_for()", session)
    check_timeout(timeout)
    for model in models:
        definition_of(model)
    before = session.info.get(_WANTED)
    session.info[_WANTED] = (models, timeout)
    try:
        yield
    finally:
        if before is None:
            session.info.pop(_WANTED, None)
        else:
            session.info[_WANTED] = before


def wait_where_asked(session: Session, token: UUID) -> None:
    """Wait for the models that the block around a commit has named; called after each commit that wrote events."""
    wanted = session.info.get(_WANTED)
    if wanted is None:
        return
    models, timeout = wanted
    pauses = _pauses(timeout)
    for model in models:
        definition = definition_of(model)
        while not _has_taken(session, definition, token):
            pause = next(pauses, None)
            if pause is None:
                raise _late(session, definition, token, timeout)
            if session.get_bind(**definition.bind_arguments).dialect.is_async:
                await_only(asyncio.sleep(pause))
            else:
                time.sleep(pause)


def _pauses(timeout: float) -> Iterator[float]:
    """Pauses in seconds, each twice as long as the one before, until the time is up."""
    end = time.monotonic() + timeout
    pause = _SHORTEST_PAUSE
    while (left := end - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _token(name: str, after: Any) -> UUID:
    """Take a commit's token, as such or as text.

    Raises:
        CommitTokenError: The text is not a UUID.
        TypeError: It is neither.
    """
    if isinstance(after, UUID):
        return after
    if not isinstance(after, str):
        hint = "; a session that has committed no events has no token, and there is nothing to wait for" if after is None else ""
        raise TypeError(
            f"{name} waits after a commit's token, from commit_token(session), or the id of an event, not {after!r}{hint}"
        )
    try:
        return UUID(after)
    except ValueError:
        raise CommitTokenError(after, name, is_token=False) from None


def _has_taken(session: Session, definition: ReadModelDefinition, event_id: UUID) -> bool:
    if definition.is_strong:
        return True
    with beside(session, definition.bind_arguments) as connection:
        return all(_follower_has_taken(connection, each, event_id) for each in followers_of(definition, connection.dialect))


def _follower_has_taken(connection: Connection, follower: Follower, event_id: UUID) -> bool:
    """Check whether no event of the commit is left that the follower is to take."""
    tables = follower.tables
    events, positions = tables.events, tables.projection_positions
    committed = events.alias("committed")
    database = database_of(connection.dialect)
    progress = exists().where(positions.c.projection_name == follower.name, database.taken(events, positions)).correlate(events)
    left = exists().where(
        database.committed_with(events, committed),
        of_consumer(follower.consumer),
        *follower.streams(without_parked=False).conditions(tables),
        ~progress,
    )
    statement = select(left.correlate(committed)).where(committed.c.event_id == event_id)
    is_left: bool | None = connection.execute(statement).scalar_one_or_none()
    if is_left is None and not is_replicated(connection, tables):
        raise _unknown(event_id)
    return is_left is False


def _late(
    session: Session, definition: ReadModelDefinition, event_id: UUID, timeout: float
) -> ReadModelLagError | CommitTokenError:
    """Build the error for a wait that took too long."""
    behind = Lag()
    events = definition.tables.events
    with beside(session, definition.bind_arguments) as connection:
        if not connection.scalar(select(exists().where(events.c.event_id == event_id))):
            return _unknown(event_id)
        for each in followers_of(definition, connection.dialect):
            behind += lag(connection, each, read_checkpoint(connection, each), most=COUNTED)
    return ReadModelLagError(definition.name, timeout, behind.events, behind.seconds, lag_is_whole=behind.is_whole)


def _unknown(event_id: UUID) -> CommitTokenError:
    return CommitTokenError(str(event_id), "wait_for()", is_token=True)
