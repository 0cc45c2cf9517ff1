"""Transactions that see one state of the database from beginning to end, and change nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sa_eventsource.store import require_own_transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

BY_THE_WAY = 1_000
"""Rows that are fetched at a time, and between two calls of a progress function."""


@contextmanager
def one_state(session: Session, bind_arguments: dict[str, Any]) -> Iterator[Connection]:
    """Begin a transaction that sees one state of the database, and end it with the block.

    Raises:
        JoinedTransactionError: The session's bind is in a transaction.
    """
    require_own_transaction(session, bind_arguments)
    try:
        if session.get_bind(**bind_arguments).dialect.name == "postgresql":
            options = {"isolation_level": "REPEATABLE READ"}
            connection = session.connection(bind_arguments=bind_arguments, execution_options=options)
            # Not by postgresql_readonly: the pool takes it back by asking for READ WRITE, which a standby refuses from then on.
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            yield connection
        else:
            connection = session.connection(bind_arguments=bind_arguments)
            driver: Any = connection.connection.driver_connection
            if not driver.in_transaction:  # sqlite3 by itself begins one only where something is written
                connection.exec_driver_sql("BEGIN")
            yield connection
    finally:
        session.rollback()
