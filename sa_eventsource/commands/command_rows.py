"""The rows of commands, statement by statement, within the transaction of whoever calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Text, Uuid, bindparam, cast, literal, select, update

from sa_eventsource.events import EventContext, decode_metadata, encode_metadata
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import DONE, PARKED, SCHEDULED, database_clock, is_scheduled, statement_clock
from sa_eventsource.store import database_of, require_transaction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
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
    """

    command_type: str
    data: str
    status: str
    outcome: str | None
    token: UUID | None


class Outcome(NamedTuple):
    """What handling a command gave.

    Attributes:
        command_id: Its id.
        result: The result, as JSON text.
        token: The id of the last event that it wrote; None if it wrote none.
    """

    command_id: UUID
    result: str
    token: UUID | None


class DueCommand(NamedTuple):
    """A scheduled command whose time has come.

    Attributes:
        command_id: Its id.
        command_type: Its stored name.
        data: Its values, as JSON text.
        attempts: How often it has failed.
        context: What it was scheduled with.
    """

    command_id: UUID
    command_type: str
    data: str
    attempts: int
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
        table = require_table(tables)
        connection = session.connection(bind_arguments=tables.bind_arguments)
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
        found = self.connection.execute(select(*columns).where(c.command_id == command_id).with_for_update()).first()
        return None if found is None else CommandRow(*found)

    def insert_scheduled(self, command_id: UUID, command_type: str, data: str, context: EventContext, due_at: Any) -> bool:
        """Schedule a command, if there is none of its id."""
        statement = self._insert(command_id, command_type, data, context).values(status=SCHEDULED, due_at=due_at)
        found = self.connection.execute(
            statement.on_conflict_do_nothing(index_elements=[self.table.c.command_id]).returning(self.table.c.command_id)
        )
        return found.first() is not None

    def put_scheduled(  # noqa: PLR0913, PLR0917 - what a row is made of
        self, command_id: UUID, command_type: str, data: str, context: EventContext, due_at: Any, key: str
    ) -> None:
        """Schedule a command under a key, in the place of the one that is scheduled there."""
        statement = self._insert(command_id, command_type, data, context).values(status=SCHEDULED, due_at=due_at, schedule_key=key)
        replaced = {each.name: statement.excluded[each.name] for each in self.table.c}
        self.connection.execute(
            statement.on_conflict_do_update(
                index_elements=[self.table.c.schedule_key], index_where=is_scheduled(self.table), set_=replaced
            )
        )

    def seconds_until_due(self, command_types: Sequence[str]) -> float | None:
        """Tell how long it is until the next command of some types is due, 0 or less if one is; None if none is scheduled."""
        c = self.table.c
        mine = select(c.due_at).where(is_scheduled(self.table), c.command_type.in_(command_types))
        next_due = mine.order_by(c.due_at).limit(1).subquery()
        found = self.connection.execute(select(next_due.c.due_at, statement_clock())).first()
        return None if found is None else float((found[0] - found[1]).total_seconds())

    def claim_due(self, command_types: Sequence[str], limit: int, command_id: UUID | None = None) -> list[DueCommand]:
        """Take the scheduled commands that have been due for longest and that nobody else is at.

        Args:
            command_types: The stored names.
            limit: How many at most.
            command_id: Take this one only.
        """
        c = self.table.c
        self.database.begin(self.connection)
        self.database.become_writer(self.connection, self.table)
        context = (c.correlation_id, c.causation_id, cast(c.metadata, Text))
        is_mine = c.command_type.in_(command_types) if command_id is None else c.command_id == command_id
        statement = (
            select(c.command_id, c.command_type, cast(c.command_data, Text), c.attempts, *context)
            .where(is_scheduled(self.table), c.due_at <= statement_clock(), is_mine)
            .order_by(c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return [
            DueCommand(found_id, command_type, data, attempts, EventContext(correlation_id, cause, decode_metadata(metadata)))
            for found_id, command_type, data, attempts, correlation_id, cause, metadata in self.connection.execute(statement)
        ]

    def note_failure(self, command_id: UUID, error: str, *, is_attempt: bool, pause: timedelta | None) -> None:
        """Store why a scheduled command failed, and when it is tried again; None parks it."""
        c = self.table.c
        again = {"status": PARKED} if pause is None else {"due_at": self.database.moment_after(pause)}
        values = {"error": error, "attempts": c.attempts + int(is_attempt), **again}
        self.connection.execute(update(self.table).where(c.command_id == command_id, is_scheduled(self.table)).values(values))

    def note_done(self, outcomes: Sequence[Outcome]) -> None:
        """Store what handling commands gave."""
        values = {
            "status": DONE,
            "outcome": self.database.document(bindparam("result", type_=Text)),
            "commit_token": bindparam("token", type_=Uuid),
            "handled_at": database_clock(),
            "error": None,
        }
        statement = update(self.table).where(self.table.c.command_id == bindparam("id")).values(values)
        rows = [{"id": each.command_id, "result": f"{_RESULT}{each.result}}}", "token": each.token} for each in outcomes]
        self.connection.execute(statement, rows)

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


def require_table(tables: EventSourceTables) -> Table:
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
