"""Where actors stop: what SQLAlchemy's engine tells of statements, commits and rollbacks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from sa_eventsource.store import DEADLOCK, code_of, is_in_autocommit
from sa_eventsource.testing.races.race_steps import StepKind
from sa_eventsource.testing.races.scheduled_actors import CURRENT, ActorAbandoned, Request
from sa_eventsource.testing.races.touched import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import ExceptionContext

    from sa_eventsource.testing.races.scheduled_actors import ScheduledActor

_SETTING_UP = ("SET", "SHOW", "SAVEPOINT", "RELEASE", "RESET")
"""Statements that see nothing of the database, and so take no snapshot of it."""

_ASK = "SHOW transaction_isolation"
_ASK_AS_SUPERUSER = "SHOW transaction_isolation; SET LOCAL deadlock_timeout = '1ms'"
"""Neither takes a snapshot. A deadlock is found in a millisecond then; only a superuser may say so."""


class Stops:
    """Has the actors of a run stop before each step on an engine, while the block lasts.

    Whoever is no actor goes on as usual.

    Attributes:
        stray: The first statement that came from no actor since :meth:`watch_strays`, with its thread's name.
        has_unseen: Whether an actor had a transaction of which no statement came by the engine.
    """

    def __init__(self, engine: Engine) -> None:
        """Stop at *engine*, and at those that are made of it by ``execution_options()``."""
        self._engine = engine
        self._listeners: tuple[tuple[str, Any], ...] = (
            ("before_cursor_execute", self._before_statement),
            ("after_cursor_execute", self._after_statement),
            ("handle_error", self._after_error),
            ("begin", self._after_begin),
            ("begin_twophase", self._after_begin),
            ("commit", self._before_commit),
            ("rollback", self._before_rollback),
            ("prepare_twophase", self._before_prepare),
            ("commit_twophase", self._before_twophase_commit),
            ("rollback_twophase", self._before_twophase_rollback),
        )
        self._had_events = False
        self._dialect_had_events = False
        self._is_watching = False
        self.stray: tuple[str, str] | None = None
        self.has_unseen = False

    def __enter__(self) -> Self:
        """Begin to listen."""
        engine: Any = self._engine
        self._had_events = "_has_events" in engine.__dict__
        self._dialect_had_events = "_has_events" in engine.dialect.__dict__
        for name, listener in self._listeners:
            event.listen(self._engine, name, listener)
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None) -> None:
        """Listen no longer: the engine is as it was, and what it does where nobody listens, it does again."""
        for name, listener in self._listeners:
            event.remove(self._engine, name, listener)
        # event.remove() leaves the marks, by which the library and SQLAlchemy take the paths for engines that are heard.
        for target, had_events in ((self._engine, self._had_events), (self._engine.dialect, self._dialect_had_events)):
            if not had_events:
                target.__dict__.pop("_has_events", None)

    def watch_strays(self, *, watch: bool) -> None:
        """Note statements that come from no actor, from now on or no longer."""
        self._is_watching = watch
        if watch:
            self.stray = None

    def _before_statement(self, connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        actor = CURRENT.get()
        if actor is None:
            if self._is_watching and self.stray is None:
                self.stray = statement, threading.current_thread().name
            return
        transaction = _transaction(actor, connection)
        takes_snapshot = False
        if not statement.lstrip()[:12].upper().startswith(_SETTING_UP):
            takes_snapshot = transaction.keeps_snapshot and not transaction.has_snapshot
            transaction.has_snapshot = True
        actor.park(Request(StepKind.STATEMENT, statement, parameters, transaction, takes_snapshot))

    def _after_statement(self, connection: Connection, _cursor: Any, *_: Any) -> None:
        actor = CURRENT.get()
        if actor is None:
            return
        transaction = actor.transactions.get(pid_of(connection))
        if transaction is not None and not transaction.has_snapshot and not transaction.is_autocommit:
            transaction.set_isolation(_ask(connection, _ASK))  # after SET TRANSACTION, it may be another one
        actor.come_back()

    def _after_error(self, context: ExceptionContext) -> None:
        actor = CURRENT.get()
        if actor is not None:
            wrapped = context.sqlalchemy_exception
            is_deadlock = wrapped is not None and code_of(wrapped) == DEADLOCK
            actor.come_back(_said(context.original_exception), is_deadlock=is_deadlock)

    def _after_begin(self, connection: Connection, *_: Any) -> None:
        actor = CURRENT.get()
        if actor is not None:
            actor.begun.add(pid_of(connection))

    def _before_commit(self, connection: Connection) -> None:
        self._before_end(connection, StepKind.COMMIT, "COMMIT")

    def _before_rollback(self, connection: Connection) -> None:
        self._before_end(connection, StepKind.ROLLBACK, "ROLLBACK")

    def _before_prepare(self, connection: Connection, xid: Any) -> None:
        self._before_end(connection, StepKind.COMMIT, f"PREPARE TRANSACTION {xid!r}")

    def _before_twophase_commit(self, connection: Connection, xid: Any, is_prepared: bool) -> None:  # noqa: FBT001 - SQLAlchemy's
        self._before_end(connection, StepKind.COMMIT, f"COMMIT PREPARED {xid!r}" if is_prepared else "COMMIT")

    def _before_twophase_rollback(self, connection: Connection, xid: Any, is_prepared: bool) -> None:  # noqa: FBT001
        self._before_end(connection, StepKind.ROLLBACK, f"ROLLBACK PREPARED {xid!r}" if is_prepared else "ROLLBACK")

    def _before_end(self, connection: Connection, kind: StepKind, text: str) -> None:
        actor = CURRENT.get()
        if actor is None:
            return
        # A transaction that has sent nothing is none for the server; one in autocommit mode has ended already.
        pid = None if connection.invalidated or connection.closed else pid_of(connection)
        if pid is None:
            return
        transaction = actor.transactions.get(pid)
        if transaction is None and _is_in_transaction(connection):
            self.has_unseen = True
            transaction = actor.transactions[pid] = Transaction(is_unseen=True)
        if transaction is None:
            actor.begun.discard(pid)
            return
        if not transaction.is_autocommit:
            try:
                actor.park(Request(kind, text, None, transaction, takes_snapshot=False))
            except ActorAbandoned:
                connection.invalidate()  # SQLAlchemy takes a commit that was broken off for done, and would not roll back
                raise
        actor.transactions.pop(pid, None)
        actor.begun.discard(pid)
        actor.ending = pid


def pid_of(connection: Connection) -> int:
    """Get the number of the server process behind a connection.

    Raises:
        TypeError: The driver is not known to tell.
    """
    driver: Any = connection.connection.driver_connection
    for ask in _PIDS:
        try:
            return int(ask(driver))
        except AttributeError:
            continue
    raise TypeError(
        f"races() does not know how {type(driver).__module__} tells the server process; use psycopg, psycopg2 or asyncpg"
    )


_PIDS: tuple[Callable[[Any], Any], ...] = (
    lambda driver: driver.info.backend_pid,  # psycopg
    lambda driver: driver.get_backend_pid(),  # psycopg2
    lambda driver: driver.get_server_pid(),  # asyncpg
)


def _is_in_transaction(connection: Connection) -> bool:
    """Ask the driver whether its connection is in a transaction, by a statement that went to the driver itself."""
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "is_in_transaction"):  # asyncpg
        return bool(driver.is_in_transaction())
    return bool(driver.info.transaction_status)  # psycopg, psycopg2


def _transaction(actor: ScheduledActor, connection: Connection) -> Transaction:
    """Get the transaction that a statement is in, a new one for the first statement."""
    pid = pid_of(connection)
    known = actor.transactions.get(pid)
    if known is not None and not known.is_autocommit:
        return known
    transaction = actor.transactions[pid] = Transaction(is_autocommit=is_in_autocommit(connection))
    if not transaction.is_autocommit:
        transaction.set_isolation(_ask(connection, _ASK_AS_SUPERUSER if _is_superuser(connection) else _ASK))
    return transaction


def _is_superuser(connection: Connection) -> bool:
    """Check whether a connection may set what only superusers may; False where the driver takes one statement at a time."""
    if connection.dialect.driver not in ("psycopg", "psycopg_async"):
        return False
    driver: Any = connection.connection.driver_connection
    return bool(driver.info.parameter_status("is_superuser") == "on")


def _ask(connection: Connection, question: str) -> str:
    cursor = connection.connection.cursor()
    try:
        cursor.execute(question)
        row: Any = cursor.fetchone()
        return str(row[0])
    finally:
        cursor.close()


def _said(error: BaseException) -> str:
    """Give an error of the database in one line."""
    first, *_ = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
