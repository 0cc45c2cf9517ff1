"""The transaction in which a consumer takes events: one frame for all who do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from sa_eventsource.store import READ_ONLY, code_of, require_own_transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Consumer


@contextmanager
def following(session: Session, consumer: Consumer) -> Iterator[Connection]:
    """Run a block in a transaction of its own, which sees, statement by statement, what others have committed.

    The end of the block commits it; an exception, or a commit that fails, rolls it back. Either way the session keeps no objects.

    Args:
        session: A session without a transaction in progress.
        consumer: The consumer, whose database it is.

    Yields:
        The session's connection.
    """
    try:
        yield begin(session, consumer)
        session.commit()
    except BaseException as error:
        if code_of(error) == READ_ONLY:
            session.invalidate()  # the server may be a standby for good: the next connection may lead to the primary
        session.rollback()
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
        JoinedTransactionError: The session's bind is in a transaction.
    """
    require_own_transaction(session, consumer.bind_arguments)
    if session.get_bind(**consumer.bind_arguments).dialect.name != "postgresql":
        return session.connection(bind_arguments=consumer.bind_arguments)
    return session.connection(bind_arguments=consumer.bind_arguments, execution_options={"isolation_level": "READ COMMITTED"})


def limit_lock_waits(connection: Connection, seconds: float) -> None:
    """Have waits for locks end with an error after some seconds, in this transaction, unless the connection has its own limit."""
    if connection.dialect.name == "postgresql":
        limit = func.set_config("lock_timeout", str(round(seconds * 1000)), True)  # noqa: FBT003 - until the transaction ends
        connection.execute(select(limit).where(func.current_setting("lock_timeout") == "0"))
