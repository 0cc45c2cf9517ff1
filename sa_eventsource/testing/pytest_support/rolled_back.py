"""Sessions whose commits are rolled back at the end of the test: SQLAlchemy's recipe, and what it cannot serve."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from sa_eventsource.testing.pytest_support.template_database import TemplateDatabase

_SESSIONS = ("eventsource_session", "eventsource_async_session")
_WORKERS = ("eventsource_worker", "eventsource_async_worker")


def refuse_beside_worker(request: pytest.FixtureRequest) -> None:
    """Refuse a rolled-back session in a test that has a worker, too."""
    _refuse(request, _WORKERS)


def refuse_beside_session(request: pytest.FixtureRequest) -> None:
    """Refuse a worker in a test that has a rolled-back session, too."""
    _refuse(request, _SESSIONS)


def _refuse(request: pytest.FixtureRequest, others: tuple[str, ...]) -> None:
    other = next((each for each in others if each in request.fixturenames), None)
    if other is None:
        return
    session, worker = sorted((request.fixturename or "", other), key=lambda name: name in _WORKERS)
    sessions = session + "s"
    kind, with_ = ("asynchronous ", "async with") if "async" in session else ("", "with")
    pytest.fail(
        f"{worker} cannot follow what {session} writes: that {kind}session commits into a transaction that ends with a rollback "
        f'(join_transaction_mode="create_savepoint"), and a worker, in a connection of its own, sees only what is committed. Take '
        f"{sessions} instead, which makes sessions on a clone of the template database, where commits are commits:\n\n"
        f"    {'async ' if 'async' in session else ''}def test_it({sessions}, {worker}):\n"
        f"        {with_} {sessions}() as session:\n"
        f"            ...\n"
        f"            {'await ' if 'async' in session else ''}session.commit()\n"
        f"        {'await ' if 'async' in session else ''}{worker}.run()",
        pytrace=False,
    )


@contextmanager
def session(template: TemplateDatabase) -> Iterator[Session]:
    """Make a session for the block, and undo all that it has done."""
    engine = create_engine(template.shared(), poolclass=NullPool)
    made = RolledBackSession(engine)
    try:
        yield made
    finally:
        made.close()
        made.undo()
        engine.dispose()


class RolledBackSession(Session):
    """Begins, when it is first used, a transaction that ends with the test; what it commits are savepoints within it.

    The connection is opened where it is used: an asynchronous one belongs to the loop of the test, which a fixture may not be in.
    """

    def __init__(self, engine: Engine) -> None:
        """Choose the database."""
        super().__init__(engine, join_transaction_mode="create_savepoint")
        self._engine = engine
        self._outer: Connection | None = None

    def get_bind(self, *_: Any, **__: Any) -> Connection:
        """Get the connection of the test."""
        if self._outer is None:
            self._outer = self._engine.connect()
            self._outer.begin()
        return self._outer

    def undo(self) -> None:
        """Roll back."""
        if self._outer is not None:
            self._outer.close()
            self._outer = None

    def cut_off(self) -> None:
        """Close an asynchronous connection outside of its loop, which may have ended: the server rolls back."""
        if self._outer is None:
            return
        connection = self._outer
        pooled: Any = connection.connection
        driver: Any = pooled.driver_connection
        pooled.detach()
        if hasattr(driver, "pgconn"):
            driver.pgconn.finish()  # psycopg's close() has to be awaited
        else:
            driver.terminate()
        self._outer = None
