"""``export_parquet`` and ``import_parquet``: a Parquet file holds what lines of JSON hold, and is checked as they are."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from sqlalchemy import Connection, Engine, text

from sa_eventsource import ImportedLog, LogExportError, LogImportError, export_events, import_events
from sa_eventsource.mapping import as_json
from sa_eventsource.transfer.copy_in import PlainBatch
from sa_eventsource.transfer.parquet import export_parquet, import_parquet, parquet_export, parquet_import
from tests.cli.exported_lines import HEADER, exactly, in_lines, line
from tests.cli.generated_logs import logs
from tests.cli.logs import EVENTS, exported, imported, without_and_by_copy
from tests.cli.parquet_files import KEY, TYPES, exported_file, imported_file, made, row
from tests.cli.test_events import insert_raw
from tests.loan_log import real_log
from tests.orders import Base
from tests.session.helpers import stored_events


def told(connection: Connection) -> list[str]:
    """Export a log in lines, letter by letter, without the positions, which each log draws for itself."""
    _, *lines = export_events(connection, EVENTS)
    return [each.partition(",")[2] for each in lines]


# --- round trips ---


@pytest.fixture
def targets(sqlite_engine: Engine, other_postgres: Engine) -> list[Engine]:
    """An empty log on each kind of database."""
    return [sqlite_engine, other_postgres]


@pytest.mark.slow_on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(events=logs(), batch_size=st.integers(min_value=1, max_value=4))
def test_a_log_is_the_same_by_parquet_as_by_lines(
    empty: Engine, targets: list[Engine], events: list[dict[str, str]], batch_size: int
) -> None:
    with empty.connect() as source:
        import_events(source, EVENTS, in_lines(events))
        lines = list(export_events(source, EVENTS))
        file = io.BytesIO()
        assert export_parquet(source, EVENTS, file, batch_size=batch_size) == len(events)
        before = told(source)
        source.rollback()
    for engine in targets:
        with engine.connect() as target:
            import_events(target, EVENTS, lines)
            by_lines = told(target)
            assert import_parquet(target, EVENTS, file).added == 0
            target.rollback()
            assert import_parquet(target, EVENTS, file, batch_size=batch_size) == ImportedLog(len(events), 0)
            by_parquet = told(target)
            target.rollback()
        assert by_parquet == by_lines
        if engine.dialect.name in (empty.dialect.name, "sqlite"):
            assert by_parquet == before  # PostgreSQL writes documents in its own way


def test_what_was_exported_is_copied(postgres_log: Engine, other_postgres: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    insert = PlainBatch.insert

    def noted(batch: PlainBatch, connection: Connection, events: object) -> None:
        insert(batch, connection, events)  # type: ignore[arg-type]
        copied.append(batch.last)

    monkeypatch.setattr(PlainBatch, "insert", noted)
    assert imported_file(other_postgres, exported_file(postgres_log), batch_size=2) == ImportedLog(5, 0)
    assert copied == [2, 4, 5]
    assert stored_events(other_postgres) == stored_events(postgres_log)


def test_an_import_can_be_repeated_and_go_on_with_lines(log: Engine, other_postgres: Engine) -> None:
    file = exported_file(log)
    lines = exported(log)
    assert imported(other_postgres, [HEADER, *lines[1:3]]) == ImportedLog(2, 0)
    assert imported_file(other_postgres, file) == ImportedLog(3, 2)
    assert imported(other_postgres, lines) == ImportedLog(0, 5)
    assert [exactly(each) for each in exported(other_postgres)[1:]] == [exactly(each) for each in lines[1:]]


def test_groups_of_rows_are_written_and_read_one_by_one(
    log: Engine, other_postgres: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_export, "_GROUP_ROWS", 2)
    monkeypatch.setattr(parquet_import, "_ROWS_AT_ONCE", 2)
    file = exported_file(log, batch_size=1)
    found = parquet.ParquetFile(file).metadata
    assert [found.row_group(each).num_rows for each in range(found.num_row_groups)] == [2, 2, 1]
    assert imported_file(other_postgres, file) == ImportedLog(5, 0)


def test_long_rows_make_smaller_groups(empty: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_export, "_GROUP_BYTES", 10_000)
    long = json.dumps({"text": "x" * 6_000})
    imported(empty, [HEADER, *(line(number, event_data=long) for number in range(1, 6))])
    found = parquet.ParquetFile(exported_file(empty, batch_size=1)).metadata
    assert [found.row_group(each).num_rows for each in range(found.num_row_groups)] == [2, 2, 1]


def test_an_empty_log_is_a_file_too(empty: Engine) -> None:
    assert imported_file(empty, exported_file(empty)) == ImportedLog(0, 0)


def loan_lines(applications: int) -> list[str]:
    """Write the first applications of the real log as an export has them."""
    lines, versions = [HEADER], dict[str, int]()
    with gzip.open(real_log(), "rt", encoding="utf-8", newline="") as file:
        for number, step in enumerate(csv.DictReader(file), 1):
            case = step.pop("case_id")
            if case not in versions and len(versions) == applications:
                break
            versions[case] = versions.get(case, 0) + 1
            at = as_json(datetime.fromisoformat(step["timestamp"]).astimezone(UTC).isoformat())
            names = {"aggregate_type": '"LoanApplication"', "aggregate_id": as_json(case), "event_type": as_json(step["activity"])}
            place = {"version": str(versions[case]), "occurred_at": at, "recorded_at": at}
            lines.append(line(number, **names, **place, event_data=as_json(step), metadata=as_json({"user": step["resource"]})))
    return lines


def test_a_real_log_goes_through_parquet(other_postgres: Engine, sqlite_engine: Engine) -> None:
    lines = loan_lines(500)
    with other_postgres.connect() as source, sqlite_engine.connect() as target:
        assert import_events(source, EVENTS, lines).added == len(lines) - 1 > 5_000
        file = io.BytesIO()
        export_parquet(source, EVENTS, file)
        assert import_parquet(target, EVENTS, file).added == len(lines) - 1
        out = list(export_events(target, EVENTS))
        assert [exactly(each) for each in out[1:]] == [exactly(each) for each in lines[1:]]
        assert import_events(source, EVENTS, out) == ImportedLog(0, len(lines) - 1)


# --- the file ---


def test_columns_have_plain_types_and_the_header_is_in_the_metadata(log: Engine) -> None:
    file = parquet.ParquetFile(exported_file(log))
    assert {field.name: field.type for field in file.schema_arrow} == TYPES
    header = json.loads(file.metadata.metadata[KEY.encode()])
    assert (header["format"], header["format_version"], header["count"]) == (KEY, 2, 5)
    assert datetime.fromisoformat(header["exported_at"]).utcoffset() is not None


def test_duckdb_reads_it(log: Engine, tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    file.write_bytes(exported_file(log).getvalue())
    with duckdb.connect() as database:
        found = database.execute(
            "SELECT position, epoch_us(occurred_at), event_data->>'$.total', metadata->>'$.user' "
            "FROM read_parquet(?) ORDER BY position LIMIT 1",
            [str(file)],
        ).fetchone()
        types = database.execute("SELECT typeof(event_id), typeof(version), typeof(recorded_at) FROM read_parquet(?)", [str(file)])
        assert types.fetchone() == ("VARCHAR", "BIGINT", "TIMESTAMP WITH TIME ZONE")
    assert found == (1, 1_777_896_000_000_000, "56.90", "ann")


def test_what_duckdb_has_rewritten_is_imported(log: Engine, other_postgres: Engine, tmp_path: Path) -> None:
    source, part = tmp_path / "log.parquet", tmp_path / "part.parquet"
    source.write_bytes(exported_file(log).getvalue())
    with duckdb.connect() as database:
        chosen = f"SELECT * FROM '{source}' WHERE aggregate_type = 'Account' ORDER BY position"
        database.execute(f"COPY ({chosen}) TO '{part}' (FORMAT parquet, KV_METADATA {{'{KEY}': '{HEADER}'}})")
    assert imported_file(other_postgres, io.BytesIO(part.read_bytes())) == ImportedLog(2, 0)
    assert stored_events(other_postgres) == [each for each in stored_events(log) if each[0] == "Account"]


def test_a_payload_is_there_letter_by_letter(sqlite_engine: Engine) -> None:
    insert_raw(sqlite_engine, UUID(int=8), data='{\r\n  "a": 1.50\n}')
    file = exported_file(sqlite_engine)
    assert parquet.read_table(file)["event_data"].to_pylist() == ['{\r\n  "a": 1.50\n}']
    Base.metadata.drop_all(sqlite_engine)
    Base.metadata.create_all(sqlite_engine)
    imported_file(sqlite_engine, file)
    assert parquet.read_table(exported_file(sqlite_engine))["event_data"].to_pylist() == ['{\r\n  "a": 1.50\n}']


def test_a_part_of_the_log_can_be_exported(log: Engine) -> None:
    file = io.BytesIO()
    with log.connect() as connection:
        assert export_parquet(connection, EVENTS, file, EVENTS.c.aggregate_type == "Account") == 2
    assert parquet.read_table(file)["version"].to_pylist() == [1, 2]


def test_an_export_reads_through_a_server_side_cursor(postgres_log: Engine) -> None:
    with postgres_log.connect() as connection:

        def cursors(*_: object) -> None:
            seen.append(connection.scalar(text("SELECT count(*) FROM pg_cursors")))

        seen: list[object] = []
        export_parquet(connection, EVENTS, io.BytesIO(), batch_size=2, on_progress=cursors)
        assert seen == [1, 1, 1]
        assert connection.scalar(text("SELECT count(*) FROM pg_cursors")) == 0


def test_progress_is_told_batch_by_batch(postgres_log: Engine, other_postgres: Engine) -> None:
    seen: list[tuple[int, int | None]] = []
    with postgres_log.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        export_parquet(connection, EVENTS, io.BytesIO(), batch_size=2, on_progress=lambda *done: seen.append(done))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    done: list[int] = []
    with other_postgres.begin() as connection:
        import_parquet(
            connection, EVENTS, exported_file(postgres_log), batch_size=2, on_progress=lambda each: done.append(each.added)
        )
    assert done == [2, 4, 5]


@pytest.mark.parametrize("field", ["event_data", "metadata"])
def test_what_is_no_json_cannot_be_exported(sqlite_engine: Engine, field: str) -> None:
    insert_raw(
        sqlite_engine, UUID(int=8), data="{" if field == "event_data" else "{}", metadata="NaN" if field == "metadata" else None
    )
    with pytest.raises(LogExportError) as caught:
        exported_file(sqlite_engine)
    assert (caught.value.event_id, caught.value.position, caught.value.field) == (UUID(int=8), 1, field)


def test_an_export_that_fails_leaves_no_whole_file(log: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_export, "_GROUP_ROWS", 2)
    file = io.BytesIO()

    def fail(number: int, _: int | None) -> None:
        if number == 4:
            raise RuntimeError("enough")

    with log.connect() as connection, pytest.raises(RuntimeError, match="enough"):
        export_parquet(connection, EVENTS, file, batch_size=1, on_progress=fail)
    assert len(file.getvalue()) > 1000
    with log.connect() as connection, pytest.raises(LogImportError, match="its end is missing; the file was cut off"):
        import_parquet(connection, EVENTS, file)


def test_files_stay_open(log: Engine) -> None:
    file = exported_file(log)
    imported_file(log, file)
    assert not file.closed


# --- by COPY or not ---

_DOCUMENTS = st.sampled_from(
    [
        *("null", "{}", "[]", "1", "NaN", "", " ", "{", "}", '{"a":1', '{"a":1}}', '{"a":1} ', '{"a":1}\n', '{"a" : [1]}', '"c"}'),
        *('{"a":1},"metadata":{"b":2', '{"a":1},"metadata":null', '{"a":"\\u0000"}', '{"a":"\\ud800"}', '{"a":"\\t\\\\"}', "{{}"),
        *('{"a":1e131071}', '{"a":1e131072}', '{"a":0.10}', '{"a":01}', '{"a":"é\u2028\x7f"}', '{"a":"\t"}', '{"a":1,"a":2}'),
        *('{"a":' + "[" * 600 + "]" * 600 + "}", '{"a":"%s"}', None),
    ]
)
_TEXTS = st.sampled_from(
    ["Order", "", "o\t1", "\\N", "null", "x" * 255, "x" * 256, "é\u2028", '"', "\\", "\x7f", "\x00", "a\r\nb", None]
)
_IDS = st.sampled_from([str(UUID(int=7)), str(UUID(int=171)).upper(), UUID(int=7).hex, "{" + str(UUID(int=7)) + "}", "", None])
_NUMBERS = st.sampled_from([-1, 0, 1, 2, 2**15 - 1, 2**15, 2**31 - 1, 2**31, 2**63 - 1, None])
_SECOND = 1_000_000
_MOMENTS = st.one_of(
    st.sampled_from([-(2**63), 2**63 - 1, None]),
    st.integers(-2, 2).flatmap(
        lambda near: st.sampled_from([-62_135_596_800 * _SECOND + near, 253_402_300_800 * _SECOND + near, near])
    ),
    st.integers(-(2**63), 2**63 - 1),
)
_VALUES = {
    **dict.fromkeys(["position", "version", "event_version"], _NUMBERS),
    **dict.fromkeys(["event_id", "correlation_id", "causation_id"], _IDS),
    **dict.fromkeys(["aggregate_type", "aggregate_id", "event_type"], _TEXTS),
    **dict.fromkeys(["event_data", "metadata"], _DOCUMENTS),
    **dict.fromkeys(["occurred_at", "recorded_at"], _MOMENTS),
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(changes=st.fixed_dictionaries({}, optional=_VALUES))
@example(changes={"event_data": '{"a":1},"metadata":{"b":2', "metadata": '"c"}'})
@example(changes={"occurred_at": 2_070_056_714_400_000_000})  # the year 67567, which is 2031 in 16 bits
def test_by_copy_or_not_the_outcome_is_the_same(forgetful: Engine, changes: dict[str, object]) -> None:
    file = made(row(1, **changes))
    meant, by_copy = without_and_by_copy(forgetful, lambda connection: import_parquet(connection, EVENTS, file))
    assert by_copy == meant
    (done, log) = meant
    if isinstance(done, ImportedLog):
        values = json.loads(json.dumps(log[0]))
        assert all(values[name] == changes[name] for name in ("aggregate_type", "aggregate_id", "event_type") if name in changes)
        assert all(datetime.fromisoformat(values[name]) for name in ("occurred_at", "recorded_at"))
