"""Handlers: what takes an event in Python, and the mark on a session that one is at work in it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import event

from sa_eventsource.events import DomainEvent, RecordedEvent, members
from sa_eventsource.exceptions import HandlerTransactionError
from sa_eventsource.plain_functions import check_ran
from sa_eventsource.store import database_of, is_in_autocommit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

HOW_TO_HANDLE = "Write a plain one, which gets a Session; from within, asyncio.run() runs a coroutine."


@dataclass(frozen=True)
class HandlerMethod:
    """One method for one event type.

    Attributes:
        event_class: The event.
        call: The method, to be called with the recorded event and the session.
    """

    event_class: type[DomainEvent]
    call: Callable[[RecordedEvent[Any], Session], None]

    def take(self, recorded: RecordedEvent[Any], session: Session) -> None:
        """Call the method.

        Raises:
            TypeError: Nothing of it has run: a wrapper hides a coroutine or generator function.
        """
        result: object = self.call(recorded, session)  # type: ignore[func-returns-value]
        if result is not None:
            check_ran(f"the handler for {self.event_class.__name__}", result, HOW_TO_HANDLE)


def by_stored_name(declared: Mapping[type[DomainEvent], Callable[[RecordedEvent[Any], Session], None]]) -> dict[str, HandlerMethod]:
    """Find the method for each event that the declared classes stand for: that of the class nearest to it."""
    return {each.__event_type__: HandlerMethod(each, declared[taker]) for each, taker in members(declared).items()}


@contextmanager
def handling(session: Session) -> Iterator[None]:
    """Let handlers change rows of read models through a session, which it refuses to all others."""
    outer = _at_work.set(True)
    try:
        with _marked(session, _HANDLING), keeping_transaction(session):
            yield
    finally:
        _at_work.reset(outer)


@contextmanager
def keeping_transaction(session: Session) -> Iterator[None]:
    """Refuse the commit of a session, and of the savepoint that it is in, while code is at work that owns neither."""
    with _marked(session, _KEEPING, (session.get_nested_transaction(),)):
        yield


@contextmanager
def _marked(session: Session, mark: str, value: object = True) -> Iterator[None]:  # noqa: FBT002 - a value, no flag
    before = session.info.get(mark)
    session.info[mark] = value
    try:
        yield
    finally:
        session.info[mark] = before


@contextmanager
def within_transaction(session: Session, connection: Connection) -> Iterator[None]:
    """Have what a handler does stay in the transaction that it is called in.

    A commit is refused before it happens: that of the session by :func:`refuse_commit`, that of the connection, also by an SQL
    text, here. What nobody can refuse, as a commit by the driver's connection or behind another statement of one text, the driver
    tells: before the next statement, which would begin another transaction, and when the handler is done. So it does of a
    rollback. Those of other connections are the handler's own affair.

    Raises:
        HandlerTransactionError: The transaction has ended. Roll back what was begun since.
    """
    if connection not in _guarded:
        _guarded.add(connection)
        event.listen(connection, "commit", _refuse_commit_of_connection)
        event.listen(connection, "before_cursor_execute", _refuse_statement)
    begun, begun_there = session.get_transaction(), connection.get_transaction()
    savepoint = session.get_nested_transaction()
    is_outermost = connection not in _kept
    if is_outermost:
        _kept[connection] = _is_open(connection) is True
        if not _kept[connection] and not event.contains(connection, "after_cursor_execute", _note_beginning):
            event.listen(connection, "after_cursor_execute", _note_beginning)
    try:
        yield
    finally:
        has_begun = _kept[connection]
        if is_outermost:
            del _kept[connection]
    if (
        session.get_transaction() is not begun
        or connection.get_transaction() is not begun_there
        or (savepoint is not None and not savepoint.is_active)
    ):
        raise HandlerTransactionError("rolled the transaction back, or ended it otherwise")
    if has_begun and _is_open(connection) is False:
        raise HandlerTransactionError(_ENDED)


_guarded: WeakSet[Connection] = WeakSet()
_kept: WeakKeyDictionary[Connection, bool] = WeakKeyDictionary()
"""Those that are listened to, and those among them in whose transaction a handler is at work: whether the driver has begun it."""
_ENDS_TRANSACTION = re.compile(
    r"(?:[\s;]|--[^\n]*\n|/\*.*?\*/)*"
    r"(commit|end|abort|prepare\s+transaction|rollback(?!\s+(work\s+|transaction\s+)?to\b))\b",
    re.IGNORECASE | re.DOTALL,
)
_ENDED = "ended the transaction by the driver's connection, or by a text of several statements"


def refuse_commit(session: Session) -> None:
    """Refuse the commit of what is kept: a session's transaction or savepoint. Savepoints within it may be released.

    Raises:
        HandlerTransactionError: It is kept.
    """
    kept = session.info.get(_KEEPING)
    if kept is not None and session.get_nested_transaction() is kept[0]:
        raise HandlerTransactionError("called session.commit()")


def _refuse_commit_of_connection(connection: Connection) -> None:
    if connection in _kept:
        # SQLAlchemy takes the transaction for ended, whatever comes of this, and would leave it open for the pool's next user.
        connection.dialect.do_rollback(connection.connection)
        raise HandlerTransactionError("committed on the session's connection")


def _refuse_statement(connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
    has_begun = _kept.get(connection)
    if has_begun is None:
        return
    if _ENDS_TRANSACTION.match(statement):
        raise HandlerTransactionError(f"executed {statement.strip().upper()}")
    if has_begun and _is_open(connection) is False:
        raise HandlerTransactionError(_ENDED)


def _note_beginning(connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
    """Note that the driver has begun the transaction, as with the first statement."""
    if _kept.get(connection) is not False:
        return
    is_open = _is_open(connection)
    if is_open:
        _kept[connection] = True
    elif is_open is False and not is_in_autocommit(connection):
        raise HandlerTransactionError(f"executed {statement.strip()}, which has ended the transaction")


def _is_open(connection: Connection) -> bool | None:
    """Ask the driver whether the transaction is in progress that a connection is in; None where that cannot be told."""
    if connection.closed or connection.invalidated:
        return None
    return database_of(connection.dialect).is_in_transaction(connection.connection.driver_connection)


def is_handling(session: Session) -> bool:
    """Check whether handlers are at work in a session."""
    return bool(session.info.get(_HANDLING, False))


def is_any_handling() -> bool:
    """Check whether a handler is at work in this thread or task, for what does not know which session it is in."""
    return _at_work.get()


_HANDLING = "sa_eventsource.handling"
_KEEPING = "sa_eventsource.keeping_transaction"
_at_work: ContextVar[bool] = ContextVar("sa_eventsource.handling", default=False)
