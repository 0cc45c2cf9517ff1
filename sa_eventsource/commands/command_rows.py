"""The rows of commands, statement by statement, within the transaction of whoever calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Text, cast, inspect, literal, select, update

from sa_eventsource.events import EventContext, decode_metadata, encode_metadata
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import DONE, database_clock
from sa_eventsource.store import database_of, require_transaction

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection, Table
    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.store import Database

_RESULT = '{"result":'


class CommandRow(NamedTuple):
    """What is stored of a command.

    Attributes:
        command_type: Its stored name.
        data: Its values, as JSON text.
        status: What has become of it.
        outcome: What handling it gave, as JSON text, if it is done.
        token: The token of the commit that did it, if that wrote events.
        context: What it was given with.
    """

    command_type: str
    data: str
    status: str
    outcome: str | None
    token: UUID | None
    context: EventContext


@dataclass(frozen=True, slots=True)
class CommandRows:
    """The table of commands, on a connection in a transaction.

    Attributes:
        connection: The connection.
        table: The table.
    """

    connection: Connection
    table: Table

    @property
    def database(self) -> Database:
        """The database's door."""
        return database_of(self.connection.dialect)

    @classmethod
    def within(cls, session: Session, tables: EventSourceTables) -> CommandRows:
        """Open the table in the transaction of a session.

        Raises:
            AutocommitError: The session's connection is in autocommit mode.
            DeclarationError: The base has no such table.
        """
        table = table_of(tables)
        connection = session.connection(bind_arguments=bind_arguments(tables))
        require_transaction(connection)
        return cls(connection, table)

    def insert_done(self, command_id: UUID, command_type: str, data: str, context: EventContext) -> bool:
        """Note a command as done, if there is none of its id; wait for whoever is about to do the same."""
        statement = self._insert(command_id, command_type, data, context).values(status=DONE, handled_at=database_clock())
        found = self.connection.execute(
            statement.on_conflict_do_nothing(index_elements=[self.table.c.command_id]).returning(self.table.c.command_id)
        )
        return found.first() is not None

    def lock(self, command_id: UUID) -> CommandRow | None:
        """Read the row of a command, and keep others from it until the transaction ends; None if there is none."""
        c = self.table.c
        columns = (c.command_type, cast(c.command_data, Text), c.status, cast(c.outcome, Text), c.commit_token)
        context = (c.correlation_id, c.causation_id, cast(c.metadata, Text))
        found = self.connection.execute(select(*columns, *context).where(c.command_id == command_id).with_for_update()).first()
        if found is None:
            return None
        command_type, data, status, outcome, token, correlation_id, causation_id, metadata = found
        given_with = EventContext(correlation_id, causation_id, decode_metadata(metadata))
        return CommandRow(command_type, data, status, outcome, token, given_with)

    def note_done(self, command_id: UUID, result: str, token: UUID | None) -> None:
        """Store what handling a command gave."""
        outcome = self._document(f"{_RESULT}{result}}}")
        values = {"status": DONE, "outcome": outcome, "commit_token": token, "handled_at": database_clock(), "error": None}
        self.connection.execute(update(self.table).where(self.table.c.command_id == command_id).values(values))

    def _insert(self, command_id: UUID, command_type: str, data: str, context: EventContext) -> Any:
        return self.database.insert(self.table).values(
            command_id=command_id,
            command_type=command_type,
            command_data=self._document(data),
            correlation_id=context.correlation_id,
            causation_id=context.causation_id,
            metadata=self._document(encode_metadata(context.metadata)),
        )

    def _document(self, text: str | None) -> Any:
        """Give a JSON text to a column of documents as it is."""
        return self.database.document(literal(text, Text))


def result_of(outcome: str) -> str:
    """Take the JSON text of a result out of an outcome as the database gives it."""
    return outcome.partition(":")[2].rpartition("}")[0]


def table_of(tables: EventSourceTables) -> Table:
    """Get the table of commands.

    Raises:
        DeclarationError: The base has none.
    """
    if tables.commands is None:
        raise DeclarationError(
            "commands with an id, and scheduled ones, are kept in a table that this base does not have. Write "
            '__eventsource__ = EventSourceOptions(commands="commands") on the declarative base, and migrate.'
        )
    return tables.commands


def bind_arguments(tables: EventSourceTables) -> dict[str, Any]:
    """Tell a session with several binds which to use: that of the aggregates."""
    aggregate_class = next(iter(tables.aggregate_classes.values()), None)
    return {"clause": tables.events} if aggregate_class is None else {"mapper": inspect(aggregate_class)}
