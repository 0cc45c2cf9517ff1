"""Handlers: what takes an event in Python, and the mark on a session that one is at work in it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import event

from sa_eventsource.events import DomainEvent, RecordedEvent, members
from sa_eventsource.exceptions import HandlerTransactionError
from sa_eventsource.plain_functions import check_ran

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


def takes_event_and_session(function: Callable[..., Any]) -> bool:
    """Check whether a function can be called with an event and a session."""
    try:
        signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True


@contextmanager
def handling(session: Session) -> Iterator[None]:
    """Let handlers change rows of read models through a session, which it refuses to all others."""
    before = session.info.get(_HANDLING, False)
    session.info[_HANDLING] = True
    outer = _at_work.set(True)
    try:
        yield
    finally:
        _at_work.reset(outer)
        session.info[_HANDLING] = before


@contextmanager
def within_transaction(session: Session, connection: Connection) -> Iterator[None]:
    """Have what a handler does stay in the transaction that it is called in.

    A commit is refused before it happens, that of the session by :func:`refuse_commit`. That a transaction was rolled back is found
    when the handler is done.

    Raises:
        HandlerTransactionError: The transaction has ended. Roll back what was begun since.
    """
    if connection not in _guarded:
        _guarded.add(connection)
        event.listen(connection, "commit", _refuse_commit_of_connection)
        event.listen(connection, "before_cursor_execute", _refuse_statement)
    begun, begun_there = session.get_transaction(), connection.get_transaction()
    yield
    if session.get_transaction() is not begun or connection.get_transaction() is not begun_there:
        raise HandlerTransactionError("rolled the transaction back, or ended it otherwise")


_guarded: WeakSet[Connection] = WeakSet()
_ENDS_TRANSACTION = re.compile(
    r"\s*(commit|end|abort|prepare\s+transaction|rollback(?!\s+(work\s+|transaction\s+)?to\b))\b", re.IGNORECASE
)


def refuse_commit(session: Session) -> None:
    """Refuse the commit of a session in which a handler is at work; savepoints may be released.

    Raises:
        HandlerTransactionError: It is no savepoint.
    """
    if is_handling(session) and session.get_nested_transaction() is None:
        raise HandlerTransactionError("called session.commit()")


def _refuse_commit_of_connection(_connection: Connection) -> None:
    if is_any_handling():
        raise HandlerTransactionError("committed on the session's connection")


def _refuse_statement(_connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
    if is_any_handling() and _ENDS_TRANSACTION.match(statement):
        raise HandlerTransactionError(f"executed {statement.strip().upper()}")


def is_handling(session: Session) -> bool:
    """Tell whether handlers are at work in a session."""
    return bool(session.info.get(_HANDLING, False))


def is_any_handling() -> bool:
    """Tell whether a handler is at work in this thread or task, for what is not told which session it is in."""
    return _at_work.get()


_HANDLING = "sa_eventsource.handling"
_at_work: ContextVar[bool] = ContextVar("sa_eventsource.handling", default=False)
