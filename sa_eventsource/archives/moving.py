"""What archiving and bringing back have in common: the stream, locked, and the rows of read models that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, bindparam, delete, insert, select

from sa_eventsource.aggregates import definition_of
from sa_eventsource.archives.manifests import require_archives
from sa_eventsource.counting import counted
from sa_eventsource.exceptions import ArchiveError
from sa_eventsource.mapping import DOCUMENTS, EVENT_COLUMNS, LOWEST_TRANSACTION_ID, present_session
from sa_eventsource.privacy import expire_aggregates
from sa_eventsource.projections import keys_of_events, locked_followers, rebuild_rows_with
from sa_eventsource.store import (
    database_of,
    flush_first,
    one_at_a_time,
    put_last_snapshot,
    require_transaction,
    role_without_right,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Table
    from sqlalchemy.orm import Session, scoped_session
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.archives.archive_files import ArchiveFile
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.read_models import ReadModelDefinition
    from sa_eventsource.store import Database

_AT_A_TIME = 1000


@dataclass(slots=True)
class StreamToMove:
    """A stream that is archived or brought back, in a transaction that keeps all others from it.

    Attributes:
        session: The session.
        connection: Its connection.
        definition: The aggregate's class.
        aggregate_id: The stream's id as stored.
        archives: The table of manifests.
        archived: The table of archived events.
        ids: The table of the ids of events in files.
    """

    session: Session
    connection: Connection
    definition: AggregateDefinition
    aggregate_id: str
    archives: Table
    archived: Table
    ids: Table
    _rebuilding: list[tuple[ReadModelDefinition, Any, set[Any]]] = field(default_factory=list)

    @classmethod
    def prepared(
        cls, given: Session | scoped_session[Session], aggregate_class: type[Any], aggregate_id: Any, function: str
    ) -> StreamToMove:
        """Begin: flush the session, and check that the transaction is one in which it can be done.

        Raises:
            ArchiveError: The transaction sees one state of the database throughout, or the role may not move events.
            DeclarationError: The base has no archives.
        """
        definition = definition_of(aggregate_class)
        kept_in = require_archives(definition.tables)
        session = present_session(given)
        flush_first(session)
        connection = session.connection(bind_arguments=definition.tables.bind_arguments)
        require_transaction(connection)
        found = cls(session, connection, definition, definition.text_id(aggregate_id), *kept_in)
        if not found.database.has_one_writer and found.database.sees_one_state(connection):
            raise found.error(f"{function} is called in a transaction that sees one state of the database; use READ COMMITTED")
        role = role_without_right(connection, definition.tables.events, "DELETE")
        if role is not None:
            raise found.error(
                f"the role {role!r} may not delete from the log, and {function} does. Call it as the owner of the table "
                f"{definition.tables.events.fullname}"
            )
        return found

    @property
    def database(self) -> Database:
        """The door to the database."""
        return database_of(self.connection.dialect)

    @property
    def tables(self) -> EventSourceTables:
        """The tables of the log."""
        return self.definition.tables

    def of_stream(self, table: Table) -> list[ColumnElement[bool]]:
        """Select the rows of the stream in a table."""
        return [table.c.aggregate_type == self.definition.aggregate_type, table.c.aggregate_id == self.aggregate_id]

    def error(self, reason: str) -> ArchiveError:
        """Say why it cannot be done."""
        return ArchiveError(self.definition.aggregate_type, self.aggregate_id, reason)

    def lock(self) -> None:
        """Keep others from the stream, and followers of the log where they are, until the transaction ends.

        Checkpoints come before the log, as a worker and a rebuild take them.
        """
        one_at_a_time(self.connection, self.tables)
        self.database.become_writer(self.connection, self.archives)
        self.database.lock_checkpoints(self.connection, self.tables.projection_positions)
        key = self.definition.aggregate_type, self.aggregate_id
        self.database.lock_stream(self.connection, self.tables.events, *key)

    def note_rows(self) -> None:
        """Note which rows of read models the stream's events belong to, before they go or after they have come.

        Raises:
            ReadModelChangedError: The rows of one were made under another declaration.
        """
        conditions = self.of_stream(self.tables.events)
        for definition in self._models():
            if not definition.handlers:
                followers = locked_followers(self.connection, definition)
                keys = keys_of_events(self.connection, definition, conditions)
                self._rebuilding.append((definition, followers, keys))

    def rebuild_rows(self) -> tuple[str, ...]:
        """Rebuild the rows that were noted, from what the log has now.

        Returns:
            The names of the models that cannot be rebuilt in part.
        """
        for definition, followers, keys in self._rebuilding:
            rebuild_rows_with(self.connection, definition, followers, keys)
        expire_aggregates(self.session, self.tables, tuple(each.model for each in self._models()))
        return tuple(each.name for each in self._models() if each.handlers)

    def copy(self, source: Table, target: Table) -> int:
        """Copy all rows of the stream from one table to the other, with each value that they have.

        Returns:
            How many there are.
        """
        names = [each.name for each in EVENT_COLUMNS]
        rows = select(*(source.c[name] for name in names)).where(*self.of_stream(source))
        statement = insert(target).from_select(names, rows).execution_options(preserve_rowcount=True)
        return self.connection.execute(statement).rowcount

    def copy_from(self, file: ArchiveFile) -> None:
        """Copy the events of a file into the table of archived events: as seen by all, since they have no transaction's id there.

        Raises:
            ArchiveFileError: It is missing, or cannot be read.
        """
        documents = {name: self.database.document(bindparam(f"{name}_text", type_=Text)) for name in DOCUMENTS}
        columns = [each for each in EVENT_COLUMNS if each.name not in DOCUMENTS]
        plain = {each.name: bindparam(f"given_{each.name}", type_=each.kind.type) for each in columns}
        statement = insert(self.archived).values({**plain, **documents})
        seen_by_all = 0 if self.database.has_one_writer else LOWEST_TRANSACTION_ID
        rows = file.rows()
        while batch := list(islice(rows, _AT_A_TIME)):
            given = [
                {f"given_{each.name}": getattr(row, each.name) for each in columns}
                | {"given_transaction_id": seen_by_all, "event_data_text": row.event_data, "metadata_text": row.event_metadata}
                for row in batch
            ]
            self.connection.execute(statement, given)

    def replace_snapshot(self, snapshot: dict[str, Any] | None) -> None:
        """Put the snapshot of the stream's last state in place of any that is there; with None, only delete that one."""
        if snapshot is None:
            self.connection.execute(delete(self.tables.snapshots).where(*self.of_stream(self.tables.snapshots)))
        else:
            put_last_snapshot(self.connection, self.tables, snapshot)

    def check_moved(self, expected: int, copied: int, removed: int) -> None:
        """Check that all events of the stream went, and no others.

        Raises:
            ArchiveError: They did not: a trigger or a rule of the application changes them.
        """
        if not expected == copied == removed:
            raise self.error(
                f"of {counted(expected, 'event')}, {copied} were kept and {removed} removed: something else changes these "
                "tables. Roll back"
            )

    def _models(self) -> Sequence[ReadModelDefinition]:
        return [each for _, each in sorted(self.tables.read_models.items()) if each.takes_from(self.definition.aggregate_type)]
