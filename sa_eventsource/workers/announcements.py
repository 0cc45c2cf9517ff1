"""Waking workers by NOTIFY instead of letting them ask: the commit of events is announced after it, and outside of it.

A ``NOTIFY`` in the writer's own transaction would take a lock for all of the cluster at its commit, so that commits wait for each
other (https://www.postgresql.org/docs/current/sql-notify.html, ``PreCommit_Notify`` in ``async.c``). Here a thread sends it, once
for all commits of the last milliseconds. What is not announced, because a process died in between, is found by asking.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

log = logging.getLogger("sa_eventsource.worker")

CHANNEL = "sa_eventsource"

_NOTIFY = f"NOTIFY {CHANNEL}"
_FAILURES = (DBAPIError, PoolTimeoutError, OSError)
"""What an announcement may fail of; the last one comes from what opens connections."""

_BETWEEN_TWO = 0.002
_AFTER_FAILURE = 1.0
_LOOK_UP = 0.5
"""Seconds between an announcement and the next, after a failure, and until a listener looks whether it is to end."""

_announcers: dict[Announcer, None] = {}
"""Those that have begun and not ended, each held by its thread."""


class Announcer:
    """Announces the commits of events in this process to the workers that listen (``Worker(..., listen=True)``).

    Example::

        with Announcer(engine):
            serve()

    A thread sends the announcements, over a connection of its own, which the engine opens at the first one and the pool does not
    count: no commit waits for one. Start it in the process that writes, after any fork. Several do no harm.
    """

    def __init__(self, engine: Engine) -> None:
        """Choose the database.

        Args:
            engine: An engine for PostgreSQL.

        Raises:
            TypeError: *engine* is no synchronous engine.
            ValueError: It is one for another database.
        """
        given: object = engine
        if not isinstance(given, Engine):
            advice = "; of an AsyncEngine, pass create_engine(url)" if hasattr(given, "sync_engine") else ""
            raise TypeError(f"Announcer() takes an engine, such as create_engine(url), not {given!r}{advice}")
        if not database_of(engine.dialect).is_server:
            raise ValueError(f"Announcer() announces by PostgreSQL's NOTIFY; {engine.dialect.name} has no equivalent")
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._news = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        """Begin to announce."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sa_eventsource announcer", daemon=True)
        self._thread.start()
        _announcers[self] = None
        return self

    def __exit__(self, *_: object) -> None:
        """Announce what has been committed, and end."""
        _announcers.pop(self, None)
        self._stopping = True
        self._news.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def announce(self) -> None:
        """Let the workers know, soon, that events were committed: for those that were written by other means than a session."""
        self._news.set()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._news.wait()
            self._news.clear()
            is_last = self._stopping
            try:
                self._send()
            except _FAILURES as error:
                log.warning("a commit could not be announced: %s", error)
                time.sleep(0 if is_last else _AFTER_FAILURE)
            time.sleep(0 if is_last else _BETWEEN_TWO)
        self._disconnect()

    def _send(self) -> None:
        """Send an announcement over the connection that is kept, or over a new one if that was cut off while it was idle."""
        if self._connection is not None:
            try:
                self._connection.exec_driver_sql(_NOTIFY)
            except DBAPIError:
                self._disconnect()
            else:
                return
        self._connection = self._engine.connect()
        self._connection.detach()
        self._connection.exec_driver_sql(_NOTIFY)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def announce(_session: Session, _token: UUID) -> None:
    """Have all announcers of this process announce a commit of events."""
    if _announcers:
        announce_commit()


def announce_commit() -> None:
    """Have all announcers of this process announce a commit."""
    for announcer in list(_announcers):
        announcer.announce()


class Listener:
    """Hears what is announced, on a connection of its own.

    Behind a pooler it hears nothing: PgBouncer lends a connection of the server's for a transaction, or gives it to someone else
    later, and ``LISTEN`` belongs to the connection. So it listens only where it talks to the server itself, and says so elsewhere.

    Attributes:
        news: Set when there was an announcement; for the reader to clear.
    """

    def __init__(self, engine: Engine, also_tell: Callable[[], None]) -> None:
        """Choose the database, and who else is to be told of each announcement, in the listener's thread.

        Raises:
            ValueError: The driver is not psycopg.
        """
        if engine.dialect.driver != "psycopg":
            raise ValueError(f"a worker can listen through psycopg only, not through {engine.dialect.name}+{engine.dialect.driver}")
        self.news = threading.Event()
        self._engine = engine
        self._also_tell = also_tell
        self._is_connected = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sa_eventsource listener", daemon=True)

    @property
    def hears(self) -> bool:
        """Whether it is connected."""
        return self._is_connected

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self._stopping = True
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._listen()
            except (*_FAILURES, self._engine.dialect.loaded_dbapi.Error) as error:
                log.warning("announcements cannot be heard, asking instead: %s", error)
            else:
                return
            self._is_connected = False
            if not self._stopping:
                time.sleep(_AFTER_FAILURE)

    def _listen(self) -> None:
        """Listen until told to stop, or return at once behind a pooler."""
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        try:
            connection.autocommit = True
            if _is_through_pooler(connection):
                log.warning(_NOT_THROUGH_A_POOLER)
                return
            connection.execute(f"LISTEN {CHANNEL}")
            self._is_connected = True
            self.news.set()  # what was announced before
            while not self._stopping:
                for _ in connection.notifies(timeout=_LOOK_UP, stop_after=1):
                    self.news.set()
                    self._also_tell()
        finally:
            pooled.close()


_NOT_THROUGH_A_POOLER = (
    "announcements cannot be heard through a pooler, asking instead: pass an engine for the database itself, "
    "Worker(..., listen=create_engine(url)), or --listen-url"
)


def _is_through_pooler(connection: Any) -> bool:
    """Check whether another process answers than the connection was promised: a pooler makes up a number of its own."""
    (answering,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    return bool(answering != connection.info.backend_pid)
