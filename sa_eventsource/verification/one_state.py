"""Transactions that see one state of the database from beginning to end, and change nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sa_eventsource.store import database_of, require_own_transaction

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
        database = database_of(session.get_bind(**bind_arguments).dialect)
        connection = session.connection(bind_arguments=bind_arguments, execution_options=database.one_state)
        database.begin_reading(connection)
        yield connection
    finally:
        session.rollback()
