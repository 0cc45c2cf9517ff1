"""What the library asks of a database where PostgreSQL and SQLite differ.

Callers ask the door (``database_of(connection.dialect)``), never for the dialect's name. A difference of a statement or two is a
method. Where all that follows differs, as when a log is followed by positions instead of snapshots, an attribute says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime, timedelta

    from sqlalchemy import Column, Connection, FromClause, Table
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.store.databases.insert_forms import InsertStatements, KeysToLock


IDS_AT_ONCE = 500
"""How many ids a statement lists: SQLite's oldest limit on parameters is 999."""


@dataclass(frozen=True, slots=True)
class OpenWriter:
    """A transaction that has written to a table and has not ended.

    Attributes:
        key: What distinguishes it from all others, as long as it is open.
        begun: When it began; None where that is not to be seen, as of another role's, or of a prepared one.
        who: Whose it is, in words.
    """

    key: str
    begun: datetime | None
    who: str


class Database(ABC):
    """One of the databases that events are stored in.

    Attributes:
        has_one_writer: Whether transactions write one at a time. Positions then become visible in their order, so that a position
            alone tells how far a reader has come; there is nothing to lock, and no work to be shared out. Where several write, a
            snapshot tells, which means nothing in another cluster.
        works_out_fields: Whether SQL works out the declared fields of read models; else Python folds them.
        is_server: Whether it is a server, with roles, settings, other sessions and replication, and not a file.
        stores_only_json: Whether a column of documents holds nothing but JSON, whoever wrote it.
        statement_by_statement: Execution options for a transaction whose statements see what others have committed meanwhile.
        one_state: Execution options for a transaction that sees one state of the database from beginning to end.
        without_transaction: Execution options for a statement that needs no transaction around it.
    """

    has_one_writer: ClassVar[bool]
    works_out_fields: ClassVar[bool]
    is_server: ClassVar[bool]
    stores_only_json: ClassVar[bool]
    statement_by_statement: ClassVar[Mapping[str, Any]]
    one_state: ClassVar[Mapping[str, Any]]
    without_transaction: ClassVar[Mapping[str, Any]]

    @abstractmethod
    def is_autocommitting(self, driver_connection: Any) -> bool:
        """Check whether the driver's connection commits each statement by itself."""

    @abstractmethod
    def is_in_transaction(self, driver_connection: Any) -> bool | None:
        """Ask the driver, and not the server, whether a transaction is in progress; None where it does not tell."""

    @abstractmethod
    def can_commit_alone(self, connection: Connection) -> bool:
        """Check whether the next statement of a transaction that has only begun could be a transaction by itself.

        That is so where the server does not know of the transaction yet, and its BEGIN would say nothing but BEGIN.
        """

    @abstractmethod
    def begin(self, connection: Connection) -> None:
        """Begin the transaction that SQLAlchemy takes for begun, where the driver would wait for the first row to be written."""

    @abstractmethod
    def begin_reading(self, connection: Connection) -> None:
        """Begin a transaction with the options ``one_state`` that only reads, before its first statement."""

    @abstractmethod
    def sees_one_state(self, connection: Connection) -> bool:
        """Check whether the transaction in progress sees one state of the database throughout."""

    @abstractmethod
    def sees_what_is_committed(self) -> ColumnElement[bool]:
        """Check, in a statement that writes, whether it sees all that was committed before it, not before its transaction."""

    @abstractmethod
    def insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        """Begin an INSERT that can say what to do ``ON CONFLICT``."""

    @abstractmethod
    def document(self, text: ColumnElement[str]) -> ColumnElement[Any]:
        """Write JSON that is given as text into a column of documents."""

    @abstractmethod
    def is_among(self, column: Column[Any], parameter: str) -> ColumnElement[bool]:
        """Select the rows whose column has a value of a JSON array of texts, which is a parameter."""

    @abstractmethod
    def moment_after(self, delay: timedelta) -> ColumnElement[datetime]:
        """Say which moment is so much later than now, by the clock that the database compares with."""

    @abstractmethod
    def insert_statements(self, events: Table, columns: tuple[str, ...], keys: KeysToLock | None) -> InsertStatements:
        """Build the INSERTs into a log, for rows with the given columns.

        Args:
            events: The log.
            columns: The columns.
            keys: The keys of subjects to lock, where there is more than one writer.
        """

    @abstractmethod
    def ends_of_streams(self, connection: Connection, events: Table, streams: Sequence[tuple[str, str]]) -> Iterator[Any]:
        """Read where each stream ends: ``(aggregate_type, aggregate_id, version, is_closed)``; no stream, no row or version 0."""

    @abstractmethod
    def become_writer(self, connection: Connection, table: Table) -> None:
        """Make the transaction the one that writes, where only one can, without writing anything."""

    @abstractmethod
    def lock_log(self, connection: Connection, events: Table, *, to_change: bool = False) -> None:
        """Keep writers of events waiting until the transaction ends. One that only reads is to become the writer before.

        Args:
            connection: In a transaction.
            events: The log.
            to_change: Whether the transaction writes to the log itself, behind the triggers. Of two such the second waits: if both
                had the log locked, each would wait for the other to write.
        """

    @abstractmethod
    def lock_checkpoints(self, connection: Connection, positions: Table) -> None:
        """Keep followers of the log where they are, and new ones from beginning, until the transaction ends."""

    @abstractmethod
    def older_view(self, connection: Connection, transaction_id: str) -> str | None:
        """Name a transaction that may see the database as it was before another one was committed; None if there is none.

        Args:
            connection: In a transaction.
            transaction_id: The other one. Where that is the one in progress, all others may.
        """

    @abstractmethod
    def letting_events_change(self, connection: Connection, events: Table) -> AbstractContextManager[None]:
        """Open the triggers that keep events as they are, for this transaction and this block. After an error, roll back."""

    @abstractmethod
    def lock_stream(self, connection: Connection, events: Table, aggregate_type: str, aggregate_id: str) -> None:
        """Wait until no other transaction holds a stream's advisory lock, and hold it until the transaction ends."""

    @abstractmethod
    def lock_stream_if_free(self, connection: Connection, events: Table, aggregate_type: str, aggregate_id: str) -> bool:
        """Do the same without waiting; return whether it is held now."""

    @abstractmethod
    def idle_limit(self) -> list[ColumnElement[Any]]:
        """Give columns for a SELECT that also limits how long its transaction may stand idle: to the parameter ``idle``, in ms.

        None where no server ends a connection.
        """

    @abstractmethod
    def limit_waits(self, connection: Connection, *, for_locks: float | None, idle: float | None) -> None:
        """Limit, until the transaction ends, how many seconds it waits for a lock and stands idle between two statements.

        Args:
            connection: In a transaction.
            for_locks: The limit where the connection has none of its own; None for no limit of ours.
            idle: The limit where the connection's own is not shorter; None for no limit of ours.
        """

    @abstractmethod
    def limit_statements(self, connection: Connection, seconds: float) -> None:
        """Have the database end each statement that takes longer, until the transaction ends; where it can."""

    @abstractmethod
    def stored_bytes(self, document: ColumnElement[Any]) -> ColumnElement[int]:
        """Select about how many bytes a document takes where it is stored, without reading it."""

    @abstractmethod
    def check_constraints(self, connection: Connection) -> None:
        """Check now what the commit would check."""

    @abstractmethod
    def snapshot(self, connection: Connection) -> str | None:
        """Ask what is visible now, as the text of a snapshot; None, without a statement, where a position alone is enough."""

    @abstractmethod
    def committed_with(self, events: FromClause, other: FromClause) -> ColumnElement[bool]:
        """Select the events that were committed together with another one, or, where that cannot be known, not after it."""

    @abstractmethod
    def written_with(self, events: FromClause, first: FromClause) -> ColumnElement[bool]:
        """Select, in the transaction itself, what it has written, by the first event that it wrote."""

    @abstractmethod
    def taken(self, events: Table, positions: Table) -> ColumnElement[bool]:
        """Select the events that a follower has taken, by its row of ``projection_positions``."""

    @abstractmethod
    def oldest_transaction(self, connection: Connection) -> tuple[int, str, float] | None:
        """Find the transaction that has an id and runs for longest: its process, its application's name, its age in seconds."""

    @abstractmethod
    def open_writers(self, connection: Connection, table: Table) -> list[OpenWriter]:
        """Find the transactions of others that have written to a table, or are about to, and may commit yet.

        Where one writes at a time, wait until it has ended, and find none.
        """

    @abstractmethod
    def unique_indexes(self, connection: Connection, table: Table) -> set[str]:
        """List a table's unique indexes by name, those on expressions too, which SQLAlchemy leaves out."""


def milliseconds(seconds: float | None) -> str | None:
    """Write a limit as PostgreSQL's settings have it; None if there is none."""
    return None if seconds is None else str(max(1, round(seconds * 1000)))  # 0 would be no limit
