"""What an import of a Parquet file refuses, and how it says so: row, field, reason."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import Engine

from sa_eventsource import LogImportError, export_events
from sa_eventsource.arguments import EARLIEST, LATEST
from sa_eventsource.counting import counted
from sa_eventsource.transfer.parquet import export_parquet, import_parquet
from tests.cli.exported_lines import HEADER, OLD_HEADER, header
from tests.cli.logs import EVENTS
from tests.cli.parquet_files import TYPES, exported_file, imported_file, made, refused_file, row

pytestmark = pytest.mark.slow_on_sqlite


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "there is nothing"),
        (b"P", "it is no Parquet file, which begins with PAR1"),
        (HEADER.encode(), "it is no Parquet file, which begins with PAR1"),
        (b"PAR1", "it is damaged: "),
        (b"PAR1" + b"x" * 100, "its end is missing; the file was cut off"),
        (b"PAR1" + b"x" * 100 + b"PAR1", "it is damaged: "),
    ],
)
def test_a_file_that_is_no_parquet_is_refused(empty: Engine, content: bytes, reason: str) -> None:
    number, field, found = refused_file(empty, io.BytesIO(content))
    assert (number, field) == (0, "")
    assert found.startswith(reason)


def test_a_file_that_was_cut_off_anywhere_is_refused(log: Engine) -> None:
    content = exported_file(log).getvalue()
    for length in range(0, len(content), len(content) // 20):
        assert refused_file(log, io.BytesIO(content[:length]))[0] == 0


def test_a_file_with_a_damaged_byte_is_refused_or_says_the_same(log: Engine, sqlite_engine: Engine) -> None:
    content = exported_file(log).getvalue()
    with sqlite_engine.connect() as connection:
        import_parquet(connection, EVENTS, io.BytesIO(content))
        meant = list(export_events(connection, EVENTS))[1:]
        connection.rollback()
        refused = 0
        for place in range(0, len(content), 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 8
            try:
                import_parquet(connection, EVENTS, io.BytesIO(damaged))
                assert list(export_events(connection, EVENTS))[1:] == meant
            except LogImportError:
                refused += 1
            connection.rollback()
    assert refused > len(content) // 7 // 3


def test_the_row_is_named_at_which_a_file_is_damaged(log: Engine) -> None:
    content = exported_file(log).getvalue()
    number, field, reason = refused_file(log, io.BytesIO(content[:100] + bytes(50) + content[150:]))
    assert (number, field) == (1, "")
    assert reason.startswith("the file is damaged here: ")


@pytest.mark.parametrize(
    ("head", "field", "reason"),
    [
        (
            None,
            "",
            "its metadata have no entry 'sa_eventsource.events'; an export has one, and whatever rewrites a file must keep it",
        ),
        ('{"format":"csv"}', "format", "there must be the header of an export first"),
        (HEADER.replace(":2,", ":3,"), "format_version", "3 is not known; this release reads versions 1 to 2"),
        ("{", "", "it is not JSON"),
        (b"\xff", "", "it is not JSON"),
    ],
)
def test_a_file_without_the_header_is_refused(empty: Engine, head: str | bytes | None, field: str, reason: str) -> None:
    number, found, given = refused_file(empty, made(row(1), header=head))
    assert (number, found) == (0, field)
    assert reason in given


def test_a_file_of_the_first_version_was_never_parquet(empty: Engine) -> None:
    expected = (1, "recorded_at", "it is not a field of the format, version 1")
    assert refused_file(empty, made(row(1), header=OLD_HEADER)) == expected


@pytest.mark.parametrize(("count", "number"), [(3, 2), (1, 2)])
def test_more_or_fewer_events_than_the_header_says_are_refused(empty: Engine, count: int, number: int) -> None:
    file = made(row(1), row(2), header=header(count))
    found = refused_file(empty, file)
    assert found[:2] == (number, "")
    assert f"the header says {counted(count, 'event')}, and there are 2" in found[2]


@pytest.mark.parametrize("name", list(TYPES))
def test_a_missing_column_is_refused(empty: Engine, name: str) -> None:
    types = {each: kind for each, kind in TYPES.items() if each != name}
    assert refused_file(empty, made(types=types)) == (0, name, "the column is missing")


def test_a_column_that_is_not_known_is_refused(empty: Engine) -> None:
    assert refused_file(empty, made(types=TYPES | {"by": pa.string()})) == (0, "by", "it is not a column of the format")


def test_a_column_that_is_there_twice_is_refused(empty: Engine) -> None:
    table = pa.table([pa.array([], kind) for kind in (*TYPES.values(), pa.string())], names=[*TYPES, "event_id"])
    file = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata({"sa_eventsource.events": HEADER}), file)
    assert refused_file(empty, file) == (0, "event_id", "the column is there twice")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("position", pa.int32()),
        ("version", pa.string()),
        ("event_id", pa.binary(16)),
        ("event_data", pa.struct([("a", pa.int64())])),
        ("aggregate_type", pa.dictionary(pa.int32(), pa.string())),
        ("occurred_at", pa.timestamp("ns", tz="UTC")),
        ("occurred_at", pa.timestamp("us")),
        ("recorded_at", pa.timestamp("us", tz="Europe/Berlin")),
    ],
    ids=str,
)
def test_a_column_of_another_type_is_refused(empty: Engine, name: str, kind: object) -> None:
    expected = f"it is a column of type {kind}, not {TYPES[name]}"
    assert refused_file(empty, made(types=TYPES | {name: kind})) == (0, name, expected)


def test_long_strings_and_another_order_of_columns_are_taken(empty: Engine) -> None:
    types = {name: pa.large_string() if kind == pa.string() else kind for name, kind in reversed(TYPES.items())}
    assert imported_file(empty, made(row(1), types=types)).added == 1


@pytest.mark.parametrize(
    ("name", "value", "place", "message"),
    [
        ("position", -1, "position", "-1 is not an integer from 0"),
        ("position", None, "position", "null is not an integer"),
        ("version", 0, "version", "0 is not an integer from 1 to 2147483647"),
        ("version", 2**31, "version", "is not an integer from 1 to 2147483647"),
        ("event_version", 2**15, "event_version", "is not an integer from 1 to 32767"),
        ("event_id", None, "event_id", "null is not a UUID"),
        ("event_id", "abc", "event_id", '"abc" is not a UUID'),
        ("causation_id", "", "causation_id", "is not a UUID"),
        ("aggregate_type", None, "aggregate_type", "null is not a string"),
        ("aggregate_type", "", "aggregate_type", "it is empty"),
        ("aggregate_id", "x" * 256, "aggregate_id", "it has 256 characters, and at most 255 are stored"),
        ("aggregate_id", "a\x00b", "aggregate_id", "it holds a NUL character"),
        ("recorded_at", None, "recorded_at", "is not a time in ISO 8601"),
        ("occurred_at", 2**63 - 1, "occurred_at", "9223372036854775807 is not a time in ISO 8601"),
        ("event_data", None, "event_data", "it is null"),
        ("event_data", "null", "event_data", "it is null"),
        ("event_data", '{"lines":[{"note":"a\\u0000b"}]}', "event_data.lines.0.note", "it holds a NUL character"),
        ("event_data", '{"a":NaN}', "event_data", "NaN is not a number that JSON can hold"),
        ("event_data", '{"a":1e200000}', "event_data", "is beyond what PostgreSQL's numeric holds"),
        ("event_data", '{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "event_data", "it is nested too deeply"),
        ("event_data", '{"a":}', "event_data", "it is not JSON: Expecting value at character 6 of its text"),
        ("event_data", '{"a":1},"metadata":{}', "event_data", "it is not JSON: Extra data at character 8 of its text"),
        ("metadata", "[]", "metadata", "[] is neither an object nor null"),
        ("metadata", "{", "metadata", "it is not JSON"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_a_value_that_does_not_fit_is_refused(empty: Engine, name: str, value: object, place: str, message: str) -> None:
    number, found, reason = refused_file(empty, made(row(1), row(2, **{name: value})))
    assert (number, found) == (2, place)
    assert message in reason
    assert len(reason) < 200


@pytest.mark.parametrize(
    ("rows", "number", "field", "reason"),
    [
        ((row(1), row(3)), 2, "version", "Order 'o-1' is at version 1, so that version 2 must come next, not 3"),
        ((row(1), row(2, position=1)), 2, "position", "1 does not come after 1; keep the events in their order"),
        ((row(1), row(2, event_id=row(1)["event_id"])), 2, "event_id", "is there already, as version 1 of Order 'o-1'"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 10])
def test_rows_must_fit_together(
    empty: Engine, batch_size: int, rows: tuple[dict[str, object], ...], number: int, field: str, reason: str
) -> None:
    found = refused_file(empty, made(*rows), batch_size=batch_size)
    assert found[:2] == (number, field)
    assert reason in found[2]


@pytest.mark.parametrize("name", ["aggregate_id", "event_data"])
def test_text_that_is_not_utf_8_is_refused(empty: Engine, name: str) -> None:
    good, bad = row(1), row(2) | {name: "\x01\x01\x01"}
    content = made(good, bad, compression="none", use_dictionary=False).getvalue()
    damaged = content.replace(b"\x03\x00\x00\x00\x01\x01\x01", b"\x03\x00\x00\x00\x01\xff\x01")
    assert damaged != content
    expected = (2, name, "it is not UTF-8: invalid start byte at byte 2")
    assert refused_file(empty, io.BytesIO(damaged)) == expected


def test_the_message_names_row_field_and_reason_or_the_file(empty: Engine) -> None:
    with pytest.raises(LogImportError) as caught:
        imported_file(empty, made(row(1), row(2, version=0)))
    assert str(caught.value) == "row 2, version: 0 is not an integer from 1 to 2147483647"
    with pytest.raises(LogImportError) as caught:
        imported_file(empty, io.BytesIO())
    assert str(caught.value) == "the file: there is nothing"


def test_an_error_of_the_disk_stays_what_it_is(log: Engine) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 4 and size != 0 and self.tell() < len(self.getvalue()) - 8:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with log.connect() as connection, pytest.raises(OSError, match="Input/output error"):
        import_parquet(connection, EVENTS, Failing(exported_file(log).getvalue()))


@pytest.mark.parametrize("wrong", ["log.parquet", Path("log.parquet"), None, io.StringIO()])
def test_a_file_that_is_none_is_a_type_error(log: Engine, wrong: object) -> None:
    with log.connect() as connection:
        with pytest.raises(
            TypeError, match=r"export_parquet\(\) takes a binary file to write to, such as open\(path, 'wb'\), not "
        ):
            export_parquet(connection, EVENTS, wrong)  # type: ignore[arg-type]
        with pytest.raises(
            TypeError, match=r"import_parquet\(\) takes a binary file to read from, such as open\(path, 'rb'\), not "
        ):
            import_parquet(connection, EVENTS, wrong)  # type: ignore[arg-type]


def test_a_file_that_is_read_in_order_only_is_refused(log: Engine) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with log.connect() as connection, pytest.raises(ValueError, match="copy it into a file first"):
        import_parquet(connection, EVENTS, Pipe(exported_file(log).getvalue()))


def test_arguments_are_checked_as_for_lines(log: Engine) -> None:
    with log.connect() as connection:
        with pytest.raises(ValueError, match="batch_size must be how many events to take at a time, 1 or more, not 0"):
            export_parquet(connection, EVENTS, io.BytesIO(), batch_size=0)
        with pytest.raises(ValueError, match="batch_size must be how many events to take at a time, 1 or more, not 0"):
            import_parquet(connection, EVENTS, io.BytesIO(), batch_size=0)
    with pytest.raises(TypeError, match=r"import_parquet\(\) takes a Connection"):
        import_parquet(log, EVENTS, io.BytesIO())  # type: ignore[arg-type]


_YEAR_1900, _YEAR_2200 = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def test_moments_are_what_the_file_says(empty: Engine) -> None:
    times = (EARLIEST, LATEST - timedelta(microseconds=1)) if empty.dialect.name == "sqlite" else (_YEAR_1900, _YEAR_2200)
    imported_file(empty, made(row(1, occurred_at=times[0], recorded_at=times[1])))
    assert imported_file(empty, exported_file(empty)).skipped == 1


@pytest.mark.parametrize("moment", [EARLIEST - timedelta(microseconds=1), LATEST])
@pytest.mark.parametrize("column", ["occurred_at", "recorded_at"])
def test_moments_that_could_not_be_read_back_are_refused(empty: Engine, column: str, moment: datetime) -> None:
    with pytest.raises(LogImportError, match=f"{column}.*could not be read back from the log"):
        imported_file(empty, made(row(1, **{column: moment})))
