"""The rows of commands, statement by statement, within the transaction of whoever calls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import update

from sa_eventsource.commands.command_statements import command_statements, of_one_row
from sa_eventsource.events import EventContext, decode_metadata, encode_metadata
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import PARKED, is_scheduled, statement_clock
from sa_eventsource.store import database_of, milliseconds, require_transaction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, Table
    from sqlalchemy.orm import Session

    from sa_eventsource.commands.command_statements import CommandStatements
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


class NextCommand(NamedTuple):
    """A scheduled command that a look has found.

    Attributes:
        command_id: Its id.
        due_at: When it is due.
        process_type: Of a time-out, the name of the process manager that has scheduled it.
        now: What the database's clock shows.
    """

    command_id: UUID
    due_at: datetime
    process_type: str | None
    now: datetime

    @property
    def is_due(self) -> bool:
        """Whether its time has come."""
        return self.due_at <= self.now


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

    @property
    def statements(self) -> CommandStatements:
        """The statements on the table."""
        return command_statements(self.table, type(self.connection.dialect))

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
        values = _values(command_id, command_type, data, context)
        return self.statements.insert_done.execute(self.connection, values).rowcount > 0

    def lock(self, command_id: UUID) -> CommandRow | None:
        """Read the row of a command, and keep others from it until the transaction ends; None if there is none."""
        found = self.statements.lock.execute(self.connection, {"id": command_id}).first()
        return None if found is None else CommandRow._make(found)

    def insert_scheduled(  # noqa: PLR0913, PLR0917 - what a row is made of
        self,
        command_id: UUID,
        command_type: str,
        data: str,
        context: EventContext,
        due: datetime | timedelta,
        key: str | None,
        process: tuple[str, str] | None,
    ) -> bool:
        """Schedule a command, if there is none of its id, and none that is scheduled under its key.

        Args:
            command_id: Its id.
            command_type: Its stored name.
            data: Its values, as JSON text.
            context: What it is scheduled with.
            due: When it is due, or how long from now, by the database's clock.
            key: The key of its place.
            process: Type and id of the process whose time-out it is; None if it is none.
        """
        process_type, process_id = process or (None, None)
        values: dict[str, Any] = _values(command_id, command_type, data, context)
        values |= {"key": key, "process_type": process_type, "process_id": process_id}
        if self.database.is_server:
            at, delay = (due, None) if isinstance(due, datetime) else (None, due)
            values |= {"at": at, "delay": delay}
        else:
            values["at"] = due if isinstance(due, datetime) else datetime.now(UTC) + due
        return self.statements.insert_scheduled.execute(self.connection, values).rowcount > 0

    def make_room(self, key: str) -> None:
        """Discard what is scheduled under a key; wait for whoever is at it. Its row stays, so that its id is known."""
        self.statements.make_room.execute(self.connection, {"key": key})

    def next_due(
        self, command_types: Sequence[str], limit: int, kinds: Sequence[ColumnElement[bool]] | None = None
    ) -> list[NextCommand]:
        """Look for the commands of some types that are due next, the longest first; they may be somebody else's by now.

        Args:
            command_types: Their stored names.
            limit: How many at most.
            kinds: Which of those whose time has come are looked for, kind by kind; None for all.
        """
        statement = self.statements.next_due
        if kinds is not None:
            statement = self.statements.next_due_of([*kinds, self.table.c.due_at > statement_clock()])
        return list(map(NextCommand._make, self.connection.execute(statement, {"types": command_types, "limit": limit})))

    def due_types(self, command_types: Sequence[str]) -> list[str]:
        """List those of some types that are among the commands which have been due for longest."""
        return list(self.connection.scalars(self.statements.due_types, {"types": command_types}))

    def due_processes(self) -> list[str]:
        """List the names of the process managers whose time-outs are due."""
        return list(self.connection.scalars(self.statements.due_processes))

    def begin_writing(self) -> None:
        """Begin the transaction, in which commands are to be claimed."""
        self.database.begin(self.connection)
        self.database.become_writer(self.connection, self.table)

    def claim(self, command_id: UUID, *, longest_idle: float) -> DueCommand | None:
        """Take a scheduled command; None if it is not due, or somebody else is at it, or done with it.

        Args:
            command_id: Its id.
            longest_idle: Seconds for which the transaction may stand idle then.
        """
        found = self.statements.claim.execute(self.connection, {"id": command_id, "idle": milliseconds(longest_idle)}).first()
        if found is None:
            return None
        found_id, command_type, data, attempts, correlation_id, cause, metadata = tuple(found)[:7]
        return DueCommand(found_id, command_type, data, attempts, EventContext(correlation_id, cause, decode_metadata(metadata)))

    def note_failure(self, command_id: UUID, error: str, *, is_attempt: bool, pause: timedelta | None) -> bool:
        """Store why a scheduled command failed, and when it is tried again; None parks it.

        Returns:
            Whether it is scheduled still: the commit of what failed may have reached the database.
        """
        c = self.table.c
        again = {"status": PARKED} if pause is None else {"due_at": self.database.moment_after(pause)}
        values = {"error": error, "attempts": c.attempts + int(is_attempt), **again}
        statement = update(self.table).where(c.command_id == command_id, of_one_row(is_scheduled(self.table))).values(values)
        return bool(self.connection.execute(statement).rowcount)

    def note_done(self, command_id: UUID, result: str, token: UUID | None) -> None:
        """Store what handling a command gave.

        Args:
            command_id: Its id.
            result: The result, as JSON text.
            token: The id of the last event that it wrote; None if it wrote none.
        """
        values = {"id": command_id, "result": f"{_RESULT}{result}}}", "token": token}
        self.statements.note_done.execute(self.connection, values)


def _values(command_id: UUID, command_type: str, data: str, context: EventContext) -> dict[str, Any]:
    return {
        "id": command_id,
        "type": command_type,
        "data": data,
        "correlation": context.correlation_id,
        "causation": context.causation_id,
        "context": encode_metadata(context.metadata),
    }


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
