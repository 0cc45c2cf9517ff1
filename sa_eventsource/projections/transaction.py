"""The transaction in which a consumer takes events: one frame for all who do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sa_eventsource.store import READ_ONLY, code_of, database_of, require_own_transaction, require_tenant, roll_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Consumer


@contextmanager
def following(
    session: Session, consumer: Consumer, *, lock_wait: float | None = None, longest_idle: float | None = None
) -> Iterator[Connection]:
    """Run a block in a transaction of its own, which sees, statement by statement, what others have committed.

    The end of the block commits it; an exception, or a commit that fails, rolls it back. Either way the session keeps no objects.

    Args:
        session: A session without a transaction in progress.
        consumer: The consumer, whose database it is.
        lock_wait: Seconds to wait for a lock, where the connection has no ``lock_timeout`` of its own; None for no limit of ours.
        longest_idle: Seconds for which the transaction may stand idle between two statements, unless the connection's own
            ``idle_in_transaction_session_timeout`` is shorter; None for no limit of ours. Then PostgreSQL ends the connection, and
            what the transaction held is free: a process that is frozen would keep it.

    Yields:
        The session's connection.
    """
    try:
        connection = begin(session, consumer)
        database_of(connection.dialect).limit_waits(connection, for_locks=lock_wait, idle=longest_idle)
        yield connection
        session.commit()
    except BaseException as error:
        if code_of(error) == READ_ONLY:
            session.invalidate()  # the server may be a standby for good: the next connection may lead to the primary
        roll_back(session)
        raise
    finally:
        session.expunge_all()


@contextmanager
def reading(session: Session, consumer: Consumer) -> Iterator[Connection]:
    """Run a block that only reads in a transaction of its own, which is rolled back at its end; otherwise as :func:`following`."""
    try:
        yield begin(session, consumer)
    finally:
        session.rollback()
        session.expunge_all()


def begin(session: Session, consumer: Consumer) -> Connection:
    """Begin a transaction that sees, statement by statement, what others have committed.

    Raises:
        NoTenantError: Tenants share the log, and the session is no tenant's.
        JoinedTransactionError: The session's bind is in a transaction.
    """
    require_own_transaction(session, consumer.bind_arguments)
    database = database_of(session.get_bind(**consumer.bind_arguments).dialect)
    connection = session.connection(bind_arguments=consumer.bind_arguments, execution_options=database.statement_by_statement)
    require_tenant(connection, consumer.tables.events)
    return connection
