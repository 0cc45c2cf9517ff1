"""The transaction in which a consumer is brought further."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Consumer


def begin(session: Session, consumer: Consumer) -> Connection:
    """Begin a transaction that sees, statement by statement, what others have committed."""
    if session.get_bind(**consumer.bind_arguments).dialect.name != "postgresql":
        return session.connection(bind_arguments=consumer.bind_arguments)
    return session.connection(bind_arguments=consumer.bind_arguments, execution_options={"isolation_level": "READ COMMITTED"})
