"""Cuts of a process's own connections: in the middle of a transaction, before its commit, and while the commit is on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    import random

    from sqlalchemy import Connection, Engine

    from sa_eventsource.selftest.journal import Journal

_IN_A_TRANSACTION = 0.002
_AT_A_COMMIT = 0.01

_FAILED = 3
"""libpq's ``PQTRANS_INERROR``."""


class Cuts:
    """Cuts connections of an engine by chance.

    A server process is ended by ``pg_terminate_backend`` only while the transaction that is to be cut holds it: behind a pooler it
    may be anybody's a moment later.
    """

    def __init__(self, engine: Engine, chance: random.Random, journal: Journal) -> None:
        """Cut connections of *engine* from now on.

        Args:
            engine: The engine.
            chance: What decides.
            journal: Where each cut is noted.
        """
        self._chance = chance
        self._journal = journal
        self._executioner = create_engine(engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        event.listen(engine, "before_cursor_execute", self._before_statement)
        event.listen(engine, "commit", self._before_commit)

    def _before_statement(self, connection: Connection, *_: Any) -> None:
        if self._chance.random() < _IN_A_TRANSACTION:
            self._journal.note("cut in a transaction")
            self._cut(connection)

    def _before_commit(self, connection: Connection) -> None:
        if self._chance.random() >= _AT_A_COMMIT:
            return
        if self._chance.random() < 0.5:  # noqa: PLR2004 - one way or the other
            self._journal.note("cut before a commit")
            self._cut(connection)
        else:
            self._journal.note("cut during a commit")
            driver: Any = connection.connection.driver_connection
            driver.pgconn.send_query(b"COMMIT")
            driver.pgconn.flush()
            driver.close()

    def _cut(self, connection: Connection) -> None:
        """End the server's process, or, where that is not allowed, close the connection."""
        driver: Any = connection.connection.driver_connection
        # A transaction that has failed, as by a deadlock, answers nothing until it is rolled back.
        if self._chance.random() < 0.5 or driver.pgconn.transaction_status == _FAILED:  # noqa: PLR2004 - one way or the other
            driver.close()
            return
        # From now on the transaction holds it, if not before.
        (process,) = driver.execute("SELECT pg_backend_pid()").fetchone()
        try:
            with self._executioner.connect() as executioner:
                executioner.execute(select(func.pg_terminate_backend(process)))
        except DBAPIError:
            driver.close()
