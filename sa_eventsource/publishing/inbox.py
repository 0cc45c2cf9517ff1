"""``Inbox``: a consumer handles each message once, as it notes the message's id in the transaction that its work is done in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Column, MetaData, String, Table, delete

from sa_eventsource.arguments import check_age
from sa_eventsource.events import EventContext
from sa_eventsource.exceptions import DeclarationError, MessageIdError
from sa_eventsource.mapping import (
    MAX_NAME_LENGTH,
    KeptRows,
    UtcDateTime,
    add_index,
    add_tenant,
    check_keep,
    database_clock,
    keep_rows,
    session_of,
    tenants_worker,
)
from sa_eventsource.store import database_of, require_transaction
from sa_eventsource.workers import is_old

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy.orm import Session, scoped_session

_INFO_KEY = "sa_eventsource.inbox"
_PREFIXES = ("ce-", "ce_", "cloudevents:", "cloudevents_")
"""What the headers of a CloudEvent begin with: HTTP, NATS and RabbitMQ; Kafka; AMQP 1.0."""


class Inbox:
    """Remembers which messages a consumer has handled, in a table on the consumer's metadata.

    Example::

        inbox = Inbox(Base)  # where the tables are declared, so that create_all() and Alembic see it

        with Session(engine) as session, session.begin():
            if inbox(session, message):
                session.add(Invoice(...))

    The consumer may be an application without a log. With an ``AsyncSession``: ``await session.run_sync(inbox, message)``.
    """

    def __init__(
        self, base: Any, *, consumer: str = "", table: str = "inbox", schema: str | None = None, keep: timedelta | None = None
    ) -> None:
        """Put the table on the metadata, unless another inbox has done so.

        Args:
            base: A declarative base, or what else has a ``metadata``.
            consumer: Who handles the messages, where several consumers in one database each handle them.
            table: The table's name.
            schema: The table's schema; None for the metadata's own.
            keep: For how long a worker of the base keeps what it remembers: longer than a broker may repeat a message. None for
                ever, or until :meth:`prune` is called, where no worker runs.

        Raises:
            DeclarationError: The base has no metadata, or a table of that name that is another's; the name of the consumer is
                too long; or *keep* is no ``timedelta`` above 0.
        """
        metadata = getattr(base, "metadata", None)
        if not isinstance(metadata, MetaData):
            raise DeclarationError(f"Inbox() takes a declarative base, not {base!r}: it has no metadata")
        if len(consumer) > MAX_NAME_LENGTH:
            raise DeclarationError(f"Inbox(consumer={consumer!r}): a name has at most {MAX_NAME_LENGTH} characters")
        self.consumer = consumer
        check_keep("Inbox(keep=...)", keep)
        self.table = _table(metadata, table, schema)
        worker = tenants_worker(getattr(base, "__eventsource__", None))
        if worker is not None:
            add_tenant(self.table, worker)
        if keep is not None:
            keep_rows(f"{self.table.key}/{consumer}", self._rows(keep))

    def __call__(self, session: Session | scoped_session[Session], message: Any) -> bool:
        """Note that a message is being handled, in the session's transaction.

        Waits for another transaction that is handling the same message; if that is rolled back, it is this one's.

        Args:
            session: The session that the work is done in. Roll it back, and the message is as if it had not come.
            message: A message of FastStream, a ``CloudEvent``, the headers of either; or the message's id.

        Returns:
            Whether it is new. If not, leave it alone: its work is committed.

        Raises:
            MessageIdError: It has no id.
            AutocommitError: The session is in autocommit mode.
            TypeError: The session is no ``Session``.
        """
        session = session_of("inbox()", session)
        source, message_id = _identity(message)
        connection = session.connection(bind_arguments={"clause": self.table})
        require_transaction(connection)
        noted = (
            database_of(connection.dialect)
            .insert(self.table)
            .values(consumer=self.consumer, source=source, message_id=message_id)
            .on_conflict_do_nothing()
            .returning(self.table.c.message_id)
        )
        return connection.execute(noted).first() is not None

    def prune(self, session: Session | scoped_session[Session], *, older_than: timedelta) -> int:
        """Forget messages that were handled long ago, in the session's transaction; commit it.

        What comes once more after it was forgotten is handled once more: keep them for longer than a broker may repeat them.

        Args:
            session: A session.
            older_than: How long ago, at least.

        Returns:
            How many were forgotten.

        Raises:
            TypeError: *older_than* is no ``timedelta``, or the session no ``Session``.
            ValueError: It is negative.
        """
        session = session_of("Inbox.prune()", session)
        check_age(older_than)
        connection = session.connection(bind_arguments={"clause": self.table})
        return connection.execute(delete(self.table).where(is_old(connection, self._rows(older_than), older_than))).rowcount

    def _rows(self, keep: timedelta) -> KeptRows:
        return KeptRows(self.table, self.table.c.handled_at, self.table.c.consumer == self.consumer, keep)


def inbox_tables(metadata: MetaData) -> list[Table]:
    """List the tables of inboxes on a metadata."""
    return [each for each in metadata.tables.values() if _INFO_KEY in each.info]


def context_of(message: Any) -> EventContext:
    """Make the context for events that follow from a message: its correlation id, and the message as their cause.

    Args:
        message: A message of FastStream, a ``CloudEvent``, or the headers of either. Ids that are no UUIDs are left out.
    """
    attributes = _attributes(message)
    return EventContext(correlation_id=_uuid(attributes.get("correlationid")), causation_id=_uuid(attributes.get("id")))


def _identity(message: Any) -> tuple[str, str]:
    """Find a message's source and id, which together tell it from all others."""
    if isinstance(message, str | UUID):
        source, message_id = "", str(message)
    else:
        attributes = _attributes(message)
        source, message_id = attributes.get("source", ""), attributes.get("id", "")
    if not message_id or max(len(source), len(message_id)) > MAX_NAME_LENGTH:
        raise MessageIdError(repr(message), message_id)
    return source, message_id


def _attributes(message: Any) -> dict[str, str]:
    """Read the attributes of a CloudEvent, whatever carries them."""
    if hasattr(message, "get_attributes"):
        return {name: str(value) for name, value in message.get_attributes().items()}
    headers = message if isinstance(message, Mapping) else getattr(message, "headers", None)
    found: dict[str, str] = {}
    for name, value in (headers or {}).items():
        lowered = str(name).lower()
        for prefix in _PREFIXES:
            if lowered.startswith(prefix):
                found[lowered.removeprefix(prefix)] = value.decode() if isinstance(value, bytes) else str(value)
    return found


def _uuid(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None


def _table(metadata: MetaData, name: str, schema: str | None) -> Table:
    own_schema = schema or metadata.schema
    existing = metadata.tables.get(name if own_schema is None else f"{own_schema}.{name}")
    if existing is not None:
        if _INFO_KEY in existing.info:
            return existing
        raise DeclarationError(f"this metadata has a table {name!r} already; name the inbox's table: Inbox(Base, table=...)")
    table: Table = Table(
        name,
        metadata,
        Column("consumer", String(MAX_NAME_LENGTH), primary_key=True),
        Column("source", String(MAX_NAME_LENGTH), primary_key=True),
        Column("message_id", String(MAX_NAME_LENGTH), primary_key=True),
        Column("handled_at", UtcDateTime, nullable=False, server_default=database_clock()),
        info={_INFO_KEY: True},
        schema=schema,
    )
    add_index(table.c.handled_at)
    return table
