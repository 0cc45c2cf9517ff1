"""A log into a Parquet file, in groups of rows."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import UUID

import pyarrow as pa
from pyarrow import parquet

from sa_eventsource.transfer.export_format import header
from sa_eventsource.transfer.log_export import LogExport
from sa_eventsource.transfer.parquet.parquet_columns import HEADER, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Row, Table
    from sqlalchemy.sql import ColumnElement

_GROUP_ROWS = 50_000
_GROUP_BYTES = 32_000_000
"""A group of rows is written when it has come to one of these; that much is held in memory."""


def export_parquet(
    connection: Connection,
    events_table: Table,
    file: BinaryIO,
    *where: ColumnElement[bool],
    batch_size: int = 1000,
    on_progress: Callable[[int, int | None], object] | None = None,
) -> int:
    """Write the log as a Parquet file, in the order of positions, in bounded memory through a server-side cursor.

    It holds what :func:`~sa_eventsource.transfer.export_events` tells of an event, in columns; payload and metadata are the JSON
    text that the database gives. The transaction sees what any SELECT sees. The header always says how many events there are: it
    is written last.

    A Parquet file is complete when its end is written. After an error it has none, and no reader takes it for a whole one.

    Args:
        connection: Where to read. Its transaction must go on until the call returns.
        events_table: The log, such as ``event_record(Base).__table__``.
        file: Where to write: a binary file, which may be a pipe. It stays open.
        *where: Conditions on the table's columns. Streams should remain whole: an import wants every version.
        batch_size: Rows fetched at a time.
        on_progress: Called after each of these batches with how many events were read up to then, and with how many there are in
            all, or None where that is not certain.

    Returns:
        How many events were written.

    Raises:
        LogExportError: SQLite holds a payload that is not JSON.
        TypeError: An argument is of another type than is wanted.
    """
    if not callable(getattr(file, "write", None)) or hasattr(file, "encoding"):
        raise TypeError(f"export_parquet() takes a binary file to write to, such as open(path, 'wb'), not {file!r}")
    log = LogExport("export_parquet()", connection, events_table, where, batch_size)
    began = datetime.now(UTC)
    target = _GroupWriter(file)
    try:
        with closing(log.batches()) as batches:
            for rows in batches:
                target.add(rows)
                if on_progress is not None:
                    on_progress(target.rows, log.count)
        target.finish(header(began, target.rows))
    except BaseException:
        target.abandon()
        raise
    return target.rows


class _GroupWriter:
    """Writes a file group by group.

    Attributes:
        rows: How many rows it was given.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.rows = 0
        self._sink = _Sink(file)
        self._writer = parquet.ParquetWriter(self._sink, SCHEMA, compression="zstd", write_page_checksum=True)
        self._begin_group()

    def _begin_group(self) -> None:
        self._group: list[Any] = []
        self._group_rows = self._group_bytes = 0

    def add(self, rows: Sequence[Row[Any]]) -> None:
        """Write rows of ``select_raw_events``."""
        table = _table(rows)
        self._group.append(table)
        self._group_rows += table.num_rows
        self._group_bytes += table.nbytes
        self.rows += table.num_rows
        if self._group_rows >= _GROUP_ROWS or self._group_bytes >= _GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        self._writer.write_table(pa.concat_tables(self._group), row_group_size=self._group_rows)
        self._begin_group()

    def finish(self, head: str) -> None:
        """Write what is left, and the end, with the header."""
        if self._group:
            self._write_group()
        self._writer.add_key_value_metadata({HEADER: head})
        self._writer.close()

    def abandon(self) -> None:
        """Leave the file without its end, which PyArrow would write as soon as nobody needs its writer any more."""
        self._sink.is_abandoned = True


class _Sink:
    """What PyArrow writes to: a file, also one that cannot tell its position."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.is_abandoned = False
        self._file = file

    def write(self, data: bytes) -> int:
        if not self.is_abandoned:
            self._file.write(data)
        return len(data)

    def flush(self) -> None:
        """Leave it to whoever opened the file."""

    def close(self) -> None:
        """Leave it to whoever opened the file."""


def _table(rows: Sequence[Row[Any]]) -> Any:
    columns = dict(zip(rows[0]._fields, zip(*rows, strict=True), strict=True))
    columns["metadata"] = columns["event_metadata"]
    return pa.table([_array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _array(values: Sequence[Any], kind: Any) -> Any:
    texts = [str(value) if isinstance(value, UUID) else value for value in values] if kind == pa.string() else values
    return pa.array(texts, type=kind)
