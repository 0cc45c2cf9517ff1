"""In which state a connection is: whether it writes in a transaction, and where to ask questions when its transaction is gone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from sa_eventsource.exceptions import AutocommitError, JoinedTransactionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

_AUTOCOMMIT = "AUTOCOMMIT"


def is_in_autocommit(connection: Connection) -> bool:
    """Tell whether each statement on a connection is a transaction of its own.

    SQLAlchemy knows what it was told; the driver's connection knows what a ``connect`` or ``checkout`` hook has set. A SQLite
    connection whose ``isolation_level`` is None is in a transaction when a ``begin`` hook has begun one, as SQLAlchemy's recipe for
    SQLite does.
    """
    option = connection.get_execution_options().get("isolation_level")
    if option is not None:
        return bool(option == _AUTOCOMMIT)
    driver: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        return getattr(driver, "isolation_level", "") is None and not getattr(driver, "in_transaction", True)
    return getattr(driver, "autocommit", False) is True


def is_execution_heard(connection: Connection) -> bool:
    """Tell whether somebody listens to ``before_execute`` or ``after_execute``, which are called for Core's statements only."""
    if not (connection._has_events or connection.engine._has_events):  # noqa: SLF001 - as SQLAlchemy asks, before it looks who
        return False
    return bool(connection.dispatch.before_execute) or bool(connection.dispatch.after_execute)


def require_transaction(connection: Connection) -> None:
    """Refuse a connection on which nothing could be undone.

    Raises:
        AutocommitError: It is in autocommit mode.
    """
    if is_in_autocommit(connection):
        raise AutocommitError(repr(connection.engine.url))


def require_own_transaction(session: Session, bind_arguments: dict[str, Any]) -> None:
    """Refuse a session whose next transaction would be a part of another one, on PostgreSQL.

    Args:
        session: A session without a transaction in progress.
        bind_arguments: What tells a session with several binds which to use.

    Raises:
        JoinedTransactionError: It is bound to a connection that is in a transaction.
    """
    bind = session.get_bind(**bind_arguments)
    if isinstance(bind, Connection) and bind.in_transaction() and bind.dialect.name == "postgresql":
        raise JoinedTransactionError(repr(bind.engine.url))


def begin_where_the_driver_does_not(connection: Connection) -> None:
    """Begin SQLite's transaction before a savepoint is set: ``sqlite3`` by itself waits for the first row to be written.

    A savepoint outside a transaction is one by itself, and its release a commit
    (https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#enabling-non-legacy-sqlite-transactional-modes-with-the-sqlite3-or-aiosqlite-driver).
    """
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite" and not driver.in_transaction:
        connection.exec_driver_sql("BEGIN")


@contextmanager
def after_rollback(connection: Connection) -> Iterator[Connection | None]:
    """Give a connection on which to find out why a transaction failed, once it is rolled back; None where there is none.

    What is begun for it ends with the block. Where the application holds the transaction (``with engine.begin() as connection``),
    SQLAlchemy lets nothing more run on that connection until its block ends; a second ``Connection`` on the same connection of the
    driver may, and sees what others have committed.
    """
    if connection.closed or connection.invalidated:
        yield None
        return
    if connection.in_transaction():
        yield connection
        return
    aside = Connection(connection.engine, connection=connection.connection)
    try:
        with aside.begin() as transaction:
            yield aside
            transaction.rollback()
    finally:
        del aside  # not closed: that would give the driver's connection back to the pool
