"""Locking one aggregate ahead of a change, where conflicts are frequent and waiting is better than retrying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.aggregates import AggregateRoot, books_of, definition_of
from sa_eventsource.mapping import check_class, session_of
from sa_eventsource.store import autoflush, database_of, flush_first, locate, require_transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, scoped_session


def lock_aggregate(
    session: Session | scoped_session[Session], aggregate_class: type[AggregateRoot[Any]], aggregate_id: Any
) -> None:
    """Wait until no other transaction holds this aggregate's lock, and hold it until the transaction ends.

    The lock is a transaction-level advisory lock (PostgreSQL's ``pg_advisory_xact_lock``): it keeps out others who ask for it, and
    no one else; a writer that does not ask meets the version check as usual. It works for aggregates that do not exist yet. Call it
    before ``session.get``, as the transaction's first statement: at REPEATABLE READ and above a later one sees nothing new. An
    instance that the session has already is flushed, under the lock, and expired; not one whose new events a flush is about to
    write, where a hook of that flush locks. On SQLite, where writers are alone anyway, nothing is locked.

    Args:
        session: The session; a transaction begins if there is none.
        aggregate_class: The aggregate's class.
        aggregate_id: Its id.

    Raises:
        TypeError: *session* is no ``Session``. In an ``AsyncSession``, ``await session.run_sync(lock_aggregate, Order, order_id)``.
        AggregateIdError: *aggregate_id* is not of the declared type.
        UnknownShardError: A sharded session does not know where the aggregate belongs.
        AutocommitError: The connection is in autocommit mode, where the lock would end with the statement.
        OperationalError: ``lock_timeout`` or a deadlock ended the wait. Roll back and retry.
    """
    session = session_of("lock_aggregate()", session)
    check_class("lock_aggregate()", aggregate_class, "an aggregate's class, such as Order")
    definition = definition_of(aggregate_class)
    text_id = definition.text_id(aggregate_id)
    events = definition.tables.events
    # Where it writes, not on a replica that it reads from: a lock there would keep nobody out.
    connection, shard = locate(session, definition, aggregate_id, writing=True)
    require_transaction(connection)
    database_of(connection.dialect).lock_stream(connection, events, definition.aggregate_type, text_id)
    autoflush(session)  # before the look: it may make a new instance persistent, or a hook of it bring one
    present = session.identity_map.get(session.identity_key(aggregate_class, aggregate_id, identity_token=shard))
    if present is not None:
        flush_first(session)
        if not books_of(present).pending:
            session.expire(present)
