"""The formats of an exported log's file: how each is written, and how it is read when a file turns out to be of it."""

from __future__ import annotations

import enum
import json
import shutil
from contextlib import closing
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from sa_eventsource.exceptions import LogImportError
from sa_eventsource.transfer import ImportedLog, export_events, import_events, load_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader

    from sqlalchemy import Connection, Table

_REPORT_EVERY = 500
_PARQUET_BEGINS = b"PAR1"


class FileFormat(enum.Enum):
    """What an export is written as."""

    JSONL = "jsonl"
    PARQUET = "parquet"

    def write(self, connection: Connection, events: Table, file: BinaryIO, on_progress: Callable[[int, int | None], object]) -> int:
        """Write the log.

        Args:
            connection: Where to read.
            events: The log.
            file: Where to write.
            on_progress: Called now and then with how many events were written, and with how many there are, where that is known.

        Returns:
            How many events were written.
        """
        if self is FileFormat.JSONL:
            return _write_lines(connection, events, file, on_progress)
        number: int = load_parquet().export_parquet(connection, events, file, on_progress=on_progress)
        return number


class ExportFile(Protocol):
    """An export that is being read.

    Attributes:
        bytes_read: How much of it has been read.
    """

    bytes_read: int

    def import_into(
        self, connection: Connection, events: Table, on_progress: Callable[[ImportedLog], object] | None = None
    ) -> ImportedLog:
        """Insert its events into a log."""
        ...


def export_file(source: BufferedReader) -> ExportFile:
    """Open an export, whichever format it has: a Parquet file begins with letters that no line of JSON begins with."""
    start = source.peek(len(_PARQUET_BEGINS))[: len(_PARQUET_BEGINS)]
    is_parquet = start and _PARQUET_BEGINS.startswith(start)  # a pipe may give less at first
    return _ParquetFile(source) if is_parquet else _LineFile(source)


def _write_lines(connection: Connection, events: Table, file: BinaryIO, on_progress: Callable[[int, int | None], object]) -> int:
    with closing(export_events(connection, events)) as lines:
        header = next(lines)
        file.write(f"{header}\n".encode())
        total = json.loads(header).get("count")
        number = 0
        for number, line in enumerate(lines, 1):
            file.write(f"{line}\n".encode())
            if number % _REPORT_EVERY == 0:
                on_progress(number, total)
    return number


class _LineFile:
    """Lines of JSON in UTF-8."""

    def __init__(self, source: BinaryIO) -> None:
        self.bytes_read = 0
        self._source = source

    def import_into(
        self, connection: Connection, events: Table, on_progress: Callable[[ImportedLog], object] | None = None
    ) -> ImportedLog:
        """Insert their events into a log."""
        return import_events(connection, events, self._lines(), on_progress=on_progress)

    def _lines(self) -> Iterator[str]:
        for number, line in enumerate(self._source, 1):
            self.bytes_read += len(line)
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise LogImportError(number, "", f"it is not UTF-8: {error.reason} at byte {error.start + 1}") from error


class _ParquetFile:
    """A Parquet file, which counts what is read of it."""

    def __init__(self, source: BinaryIO) -> None:
        self.bytes_read = 0
        self._source = source

    def import_into(
        self, connection: Connection, events: Table, on_progress: Callable[[ImportedLog], object] | None = None
    ) -> ImportedLog:
        """Insert its events into a log. What comes from a pipe is put into a temporary file first."""
        reader = load_parquet()
        with TemporaryFile() as copy:
            if not self._source.seekable():
                shutil.copyfileobj(self._source, copy)
                self._source = copy
            done: ImportedLog = reader.import_parquet(connection, events, self, on_progress=on_progress)
        return done

    def read(self, size: int = -1) -> bytes:
        """Read from the file."""
        data = self._source.read(size)
        self.bytes_read += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        """Be the file in everything else."""
        return getattr(self._source, name)
