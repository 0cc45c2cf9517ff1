"""Plain rows of an export into the log by PostgreSQL's COPY, which the database works off while the next ones are being read."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Text, Uuid, any_, bindparam, cast, func, select

from sa_eventsource.events import CLOSED_TYPE
from sa_eventsource.mapping import MOVED, is_shared_by_tenants, regclass_name
from sa_eventsource.store import is_execution_heard, is_in_autocommit
from sa_eventsource.transfer.plain_lines import copy_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from sqlalchemy import Connection, Table

    from sa_eventsource.transfer.exported_rows import ExportedRow

_ROWS_AT_ONCE = 250
"""Rows sent with one call: some hundred kilobytes, so that the database has something to do before the batch is read."""


class NotCopiedError(Exception):
    """A batch needs a closer look, row by row; nothing of it was inserted."""


class UnknownStreamError(NotCopiedError):
    """It has a stream whose version must be looked up first."""


def can_copy(connection: Connection, events: Table) -> bool:
    """Check whether COPY can be used: by psycopg, not async, in a transaction, where nobody listens to statements.

    PostgreSQL refuses it where there is row security.
    """
    heard = connection.dispatch.before_cursor_execute or connection.dispatch.after_cursor_execute
    return (
        connection.dialect.driver == "psycopg"
        and not connection.dialect.is_async
        and not heard
        and not is_execution_heard(connection)
        and not is_in_autocommit(connection)
        and not is_shared_by_tenants(events)
    )


class PlainBatch:
    """A batch of rows on its way into the log.

    Attributes:
        last: The position of the last event that was read.
        versions: The versions that streams have come to by this batch.
        closed: The streams that it closes.
    """

    def __init__(
        self,
        rows: Sequence[ExportedRow],
        *,
        last: int,
        versions: Mapping[tuple[str, str], int],
        closed: AbstractSet[tuple[str, str]],
        checks_ids: bool,
    ) -> None:
        """Choose the rows.

        Args:
            rows: The rows of the export.
            last: The position of the event before.
            versions: The versions that streams have come to before. One that is not among them begins in this batch.
            closed: The streams that were closed before.
            checks_ids: Whether to look if an event's id is there twice: in a partitioned log, no constraint refuses one that
                another stream has.
        """
        self.last = last
        self.versions: dict[tuple[str, str], int] = {}
        self.closed: set[tuple[str, str]] = set()
        self._exported = rows
        self._before = versions
        self._closed_before = closed
        self._checks_ids = checks_ids
        self._event_ids: list[str] = []

    def insert(self, connection: Connection, events: Table) -> None:
        """Insert all of them within a savepoint, or none.

        Raises:
            NotCopiedError: A row is not plain, out of order or refused by the database, or its event is there already.
        """
        columns = ", ".join(f'"{events.c[name].name}"' for name in MOVED)
        driver: Any = connection.connection.driver_connection
        refused: type[Exception] = connection.dialect.loaded_dbapi.Error
        try:
            with connection.begin_nested(), driver.cursor() as cursor:
                with cursor.copy(f"COPY {regclass_name(connection, events)} ({columns}) FROM STDIN") as copy:
                    for rows in self._rows():
                        copy.write(rows)
                if cursor.rowcount != len(self._exported):  # a trigger of the application left some out
                    raise NotCopiedError
                if self._checks_ids and not self._are_ids_unique(connection, events):
                    raise NotCopiedError
        except (refused, UnicodeEncodeError) as error:
            raise NotCopiedError from error

    def _are_ids_unique(self, connection: Connection, events: Table) -> bool:
        ids = cast(bindparam("ids", self._event_ids, type_=ARRAY(Text)), ARRAY(Uuid))
        number = select(func.count()).select_from(events).where(events.c.event_id == any_(ids))
        return len(set(self._event_ids)) == len(self._event_ids) == connection.scalar(number)

    def _rows(self) -> Iterator[str]:
        rows = self._checked_rows()
        while some := "".join(islice(rows, _ROWS_AT_ONCE)):
            yield some

    def _checked_rows(self) -> Iterator[str]:
        before, versions, last = self._before, self.versions, self.last
        for row in self._exported:
            event = row.plain()
            if event is None:
                raise NotCopiedError
            stream, number = event.stream, int(event.version)
            present = versions.get(stream) or before.get(stream)
            if number != (present or 0) + 1:
                raise NotCopiedError if present is not None else UnknownStreamError
            if stream in self._closed_before or stream in self.closed:
                raise NotCopiedError
            if event.event_type == CLOSED_TYPE:
                self.closed.add(stream)
            versions[stream] = number
            if (place := int(event.position)) <= last:
                raise NotCopiedError
            last = place
            self._event_ids.append(event.event_id)
            yield copy_row(event)
        self.last = last
