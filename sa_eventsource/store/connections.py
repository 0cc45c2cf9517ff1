"""In which state a connection is: whether it writes in a transaction, and where to ask questions when its transaction is gone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from sa_eventsource.exceptions import AutocommitError, JoinedTransactionError
from sa_eventsource.store.databases import database_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

_AUTOCOMMIT = "AUTOCOMMIT"


def is_in_autocommit(connection: Connection) -> bool:
    """Check whether each statement on a connection is a transaction of its own.

    SQLAlchemy knows what it was told; the driver's connection knows what a ``connect`` or ``checkout`` hook has set.
    """
    option = connection.get_execution_options().get("isolation_level")
    if option is not None:
        return bool(option == _AUTOCOMMIT)
    driver: Any = connection.connection.dbapi_connection
    if getattr(driver, "autocommit", None) is False:  # the usual answer, which no more calls are spent on
        return False
    return database_of(connection.dialect).is_autocommitting(driver)


def require_transaction(connection: Connection) -> None:
    """Refuse a connection on which nothing could be undone.

    Raises:
        AutocommitError: It is in autocommit mode.
    """
    if is_in_autocommit(connection):
        raise AutocommitError(repr(connection.engine.url))


def autoflush(session: Session) -> None:
    """Flush before something is read, as a query does: not where autoflush is off, and not where a hook of a flush reads."""
    session._autoflush()  # noqa: SLF001 - SQLAlchemy 2.0 does not by itself for a statement without entities


def flush_first(session: Session) -> None:
    """Flush before something is written or locked; not where a hook of a flush does that, which sees what is written so far."""
    if not session._flushing:  # noqa: SLF001 - what SQLAlchemy's own autoflush asks; nothing public tells
        session.flush()


def require_own_transaction(session: Session, bind_arguments: dict[str, Any]) -> None:
    """Refuse a session whose next transaction would be a part of another one, where several transactions write at a time.

    Args:
        session: A session without a transaction in progress.
        bind_arguments: What shows a session with several binds which to use.

    Raises:
        JoinedTransactionError: It is bound to a connection that is in a transaction.
    """
    bind = session.get_bind(**bind_arguments)
    if isinstance(bind, Connection) and bind.in_transaction() and not database_of(bind.dialect).has_one_writer:
        raise JoinedTransactionError(repr(bind.engine.url))


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
