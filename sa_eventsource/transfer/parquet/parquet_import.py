"""A Parquet file into a log: its rows, as JSON texts by column, which an import checks as it checks those of lines."""

from __future__ import annotations

import os
from contextlib import contextmanager
from json.encoder import encode_basestring  # what as_json does to a text, in C
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from sa_eventsource.exceptions import LogImportError
from sa_eventsource.mapping import DOCUMENTS, EXPORTED
from sa_eventsource.transfer.export_format import read_event, read_header
from sa_eventsource.transfer.json_members import Member, MemberError, member_of, members_of
from sa_eventsource.transfer.log_import import LogImport
from sa_eventsource.transfer.parquet.parquet_columns import HEADER, SCHEMA
from sa_eventsource.transfer.plain_lines import PlainEvent, plain_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection, Table

    from sa_eventsource.transfer.export_format import ImportedEvent
    from sa_eventsource.transfer.exported_rows import Readable
    from sa_eventsource.transfer.import_target import ImportedLog

_MAGIC = b"PAR1"
_ROWS_AT_ONCE = 1000
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999, in microseconds from 1970 on."""

_PLAIN = "{" + ",".join(f'"{name}":%s' for name in EXPORTED) + "}"
_DATA = EXPORTED.index("event_data")


def import_parquet(
    connection: Connection,
    events_table: Table,
    file: BinaryIO,
    *,
    batch_size: int = 10_000,
    on_progress: Callable[[ImportedLog], object] | None = None,
) -> ImportedLog:
    """Insert the events of a Parquet file into a log, in the caller's transaction, in batches.

    The file is one that :func:`export_parquet` wrote, or one with the same columns and the same entry in its metadata. Everything
    else is as for :func:`~sa_eventsource.transfer.import_events`: what is checked, what is skipped, what goes by COPY, and that no
    read model takes part.

    Args:
        connection: Where to write. The caller commits, or rolls back after an error: some batches may have been inserted.
        events_table: The log, such as ``event_record(Base).__table__``.
        file: A binary file that can be read at any place: a Parquet file begins at its end. It stays open.
        batch_size: Events inserted by one statement, at most.
        on_progress: Called after each batch with what was done up to then.

    Returns:
        How many events were inserted and how many skipped.

    Raises:
        LogImportError: The file is no Parquet, is cut off or damaged, has other columns, or a row does not fit the format or the
            log.
        TypeError: An argument is of another type than is wanted.
        ValueError: The file cannot be read at any place, as a pipe cannot. Copy it into a file first.
        CompileError: The database is neither PostgreSQL nor SQLite.
    """
    target = LogImport("import_parquet()", connection, events_table, batch_size=batch_size, on_progress=on_progress)
    if not callable(getattr(file, "read", None)) or not isinstance(file.read(0), bytes):
        raise TypeError(f"import_parquet() takes a binary file to read from, such as open(path, 'rb'), not {file!r}")
    if not file.seekable():
        raise ValueError(f"a Parquet file is read from its end, which {file!r} does not allow; copy it into a file first")
    source = _open(file)
    return target.take(_Header(source), _rows(source))


def parquet_events(file: BinaryIO) -> Iterator[ImportedEvent]:
    """Read the events of a Parquet file, each as an import would take it, without a log to compare them with.

    Args:
        file: As for :func:`import_parquet`.

    Raises:
        LogImportError: The file is no Parquet, is cut off or damaged, has other columns, or a row does not fit the format.
    """
    source = _open(file)
    place: Readable = _Header(source)
    try:
        version = read_header(place).format_version
        for row in _rows(source):
            place = row
            yield read_event(row, version)
    except MemberError as error:
        raise place.refused(error.name, error.reason) from error


class _Header:
    """The header, in the file's metadata."""

    def __init__(self, source: Any) -> None:
        self._text: bytes | None = (source.metadata.metadata or {}).get(HEADER)

    def members(self) -> dict[str, Member]:
        """Take the JSON object apart that it is."""
        if self._text is None:
            name = HEADER.decode()
            raise MemberError(
                "", f"its metadata have no entry {name!r}; an export has one, and whatever rewrites a file must keep it"
            )
        return members_of(self._text.decode(errors="replace"))

    def refused(self, field: str, reason: str) -> LogImportError:
        """Make the error that names the file."""
        return LogImportError(0, field, reason, unit="row")


class _ParquetRow(NamedTuple):
    """A row: its number, from 1, and the JSON texts of its columns in the order of an export."""

    number: int
    texts: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many characters it has."""
        return sum(map(len, self.texts))

    def plain(self) -> PlainEvent | None:
        """Take it apart if the line that it makes is as an export writes it."""
        event = plain_event(_PLAIN % self.texts)
        # Documents that are no JSON could make a plain line, with another end of the one and another beginning of the other.
        return event if event is not None and event.event_data == self.texts[_DATA] else None

    def members(self) -> dict[str, Member]:
        """Read the texts."""
        return {name: member_of(name, text) for name, text in zip(EXPORTED, self.texts, strict=True)}

    def refused(self, field: str, reason: str) -> LogImportError:
        """Make the error that names the row."""
        return LogImportError(self.number, field, reason, unit="row")


def _open(file: BinaryIO) -> Any:
    start = _read_at(file, 0, os.SEEK_SET)
    if start != _MAGIC:
        reason = "it is no Parquet file, which begins with PAR1" if start else "there is nothing"
        raise LogImportError(0, "", reason, unit="row")
    if _read_at(file, -len(_MAGIC), os.SEEK_END) != _MAGIC:
        raise LogImportError(0, "", "its end is missing; the file was cut off", unit="row")
    with _damage_at(0):
        return parquet.ParquetFile(file, page_checksum_verification=True)


def _read_at(file: BinaryIO, offset: int, whence: int) -> bytes:
    file.seek(offset, whence)
    return file.read(len(_MAGIC))


@contextmanager
def _damage_at(row: int) -> Iterator[None]:
    """Say where a file is damaged; what the disk has to say of it stays as it is."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = "the file is damaged here" if row else "it is damaged"
        raise LogImportError(row, "", f"{reason}: {str(error).splitlines()[0]}", unit="row") from error


def _rows(source: Any) -> Iterator[_ParquetRow]:
    _check_columns(source.schema_arrow)
    batches = source.iter_batches(_ROWS_AT_ONCE)
    number = 1
    while True:
        with _damage_at(number):
            batch = next(batches, None)
        if batch is None:
            return
        columns = [_json_texts(name, batch.column(name), number) for name in EXPORTED]
        for texts in zip(*columns, strict=True):
            yield _ParquetRow(number, texts)
            number += 1


def _check_columns(columns: Any) -> None:
    with _damage_at(0):
        given = columns.names
    for name in dict.fromkeys([*EXPORTED, *given]):
        reason = _wrong(columns, name)
        if reason is not None:
            raise LogImportError(0, name, reason, unit="row")


def _wrong(columns: Any, name: str) -> str | None:
    if name not in EXPORTED:
        return "it is not a column of the format"
    found = columns.get_all_field_indices(name)
    if len(found) != 1:
        return "the column is there twice" if found else "the column is missing"
    given, wanted = columns.field(name).type, SCHEMA.field(name).type
    if given != wanted and (wanted, given) != (pa.string(), pa.large_string()):
        return f"it is a column of type {given}, not {wanted}"
    return None


def _json_texts(name: str, column: Any, first: int) -> Sequence[str]:
    """Write a column's values as JSON texts."""
    kind = SCHEMA.field(name).type
    if kind == pa.int64():
        return _filled(column.cast(pa.string()))
    if kind != pa.string():
        return _moments(column)
    try:
        if name in DOCUMENTS:
            return _filled(column)
        return ["null" if text is None else encode_basestring(text) for text in column.to_pylist()]
    except UnicodeDecodeError:
        for number, value in enumerate(column, first):
            _check_text(number, name, value)
        raise


def _filled(column: Any) -> list[str]:
    texts: list[str] = column.fill_null("null").to_pylist()
    return texts


def _moments(column: Any) -> list[str]:
    # PyArrow counts years in 16 bits: one behind 9999 is not taken for what it writes.
    numbers = column.cast(pa.int64()).to_pylist()
    texts = column.cast(pa.timestamp("us")).cast(pa.string()).to_pylist()
    return [
        "null" if number is None else f'"{text[:10]}T{text[11:]}+00:00"' if _FIRST <= number <= _LAST else str(number)
        for number, text in zip(numbers, texts, strict=True)
    ]


def _check_text(number: int, name: str, value: Any) -> None:
    try:
        value.as_py()
    except UnicodeDecodeError as error:
        row = _ParquetRow(number, ())
        raise row.refused(name, f"it is not UTF-8: {error.reason} at byte {error.start + 1}") from error
