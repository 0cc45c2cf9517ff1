"""``export_events`` and ``import_events``: what goes out comes in again, and what does not fit is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from sa_eventsource import ImportedLog, LogExportError, LogImportError, export_events, import_events
from sa_eventsource.mapping import as_json
from tests.cli.commands import BASE, succeed
from tests.cli.exported_lines import HEADER, OLD_HEADER, exactly, in_lines, line
from tests.cli.generated_logs import logs
from tests.cli.logs import EVENTS, exported, imported, refused
from tests.cli.test_events import insert_raw
from tests.databases import number_waiting
from tests.orders import Order
from tests.session.helpers import note_elsewhere, stored_events
from tests.shop import NoteAdded
from tests.waiting import wait_until

# --- round trips ---


@pytest.mark.slow_on_sqlite
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(events=logs(), batch_size=st.integers(min_value=1, max_value=4))
def test_what_is_imported_is_exported_to_the_last_digit(empty: Engine, events: list[dict[str, str]], batch_size: int) -> None:
    lines = in_lines(events)
    with empty.connect() as connection:
        try:
            done = import_events(connection, EVENTS, lines, batch_size=batch_size)
            assert done == ImportedLog(len(events), 0)
            first, *rest = export_events(connection, EVENTS)
            assert [exactly(each) for each in rest] == [exactly(each) for each in lines[1:]]
            again = import_events(connection, EVENTS, [first, *rest], batch_size=batch_size)
            assert again == ImportedLog(0, len(events))
        finally:
            connection.rollback()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=20)
@given(events=logs())
def test_a_log_goes_from_one_database_to_the_other_and_back(
    postgres_log: Engine, sqlite_engine: Engine, events: list[dict[str, str]]
) -> None:
    with postgres_log.connect() as source, sqlite_engine.connect() as target:
        try:
            import_events(source, EVENTS, in_lines(events))
            out = list(export_events(source, EVENTS))
            import_events(target, EVENTS, out)
            assert [exactly(each) for each in list(export_events(target, EVENTS))[1:]] == [exactly(each) for each in out[1:]]
            assert import_events(source, EVENTS, list(export_events(target, EVENTS))).added == 0
        finally:
            source.rollback()
            target.rollback()


def test_an_imported_aggregate_lives_on(log: Engine, other_postgres: Engine) -> None:
    lines = exported(log)
    assert imported(other_postgres, lines) == ImportedLog(5, 0)
    with Session(other_postgres) as session:
        order = session.get_one(Order, "o-1")
        assert (order.version, order.total, order.notes) == (3, Decimal("56.90"), ["ring twice é"])
        order.note("moved")
        session.commit()
        assert stored_events(other_postgres)[-1] == ("Order", "o-1", 4, "NoteAdded")
    assert [exactly(each) for each in exported(other_postgres)[1:6]] == [exactly(each) for each in lines[1:]]


def test_positions_are_new_and_in_the_same_order(log: Engine) -> None:
    place = [line(number, position=str(number * 100), aggregate_id=f'"n-{9 - number}"', version="1") for number in range(10, 15)]
    imported(log, [HEADER, *place])
    with log.connect() as connection:
        found = connection.execute(text("SELECT position, aggregate_id FROM events WHERE position > 5 ORDER BY position")).all()
    assert [row.aggregate_id for row in found] == [f"n-{9 - number}" for number in range(10, 15)]
    assert all(row.position < 100 for row in found)


# --- exporting ---


def test_an_export_reads_through_a_server_side_cursor(postgres_log: Engine) -> None:
    with postgres_log.connect() as connection:
        lines = export_events(connection, EVENTS, batch_size=2)
        next(lines)
        next(lines)
        assert connection.scalar(text("SELECT count(*) FROM pg_cursors")) == 1
        lines.close()
        assert connection.scalar(text("SELECT count(*) FROM pg_cursors")) == 0


@pytest.mark.parametrize(("level", "count"), [("READ COMMITTED", None), ("REPEATABLE READ", 5), ("SERIALIZABLE", 5)])
def test_the_header_counts_only_where_the_count_stays_true(postgres_log: Engine, level: str, count: int | None) -> None:
    with postgres_log.connect().execution_options(isolation_level=level) as connection:
        first = json.loads(next(export_events(connection, EVENTS)))
    assert first.get("count") == count
    assert (first["format"], first["format_version"]) == ("sa_eventsource.events", 2)
    assert datetime.fromisoformat(first["exported_at"]).utcoffset() == timedelta(0)


def test_a_part_of_the_log_can_be_exported(log: Engine) -> None:
    with log.connect() as connection:
        _, *lines = export_events(connection, EVENTS, EVENTS.c.aggregate_type == "Account")
    assert [json.loads(each)["version"] for each in lines] == [1, 2]


@pytest.mark.parametrize("field", ["event_data", "metadata"])
def test_what_is_no_json_cannot_be_exported(sqlite_engine: Engine, field: str) -> None:
    insert_raw(
        sqlite_engine, UUID(int=8), data="{" if field == "event_data" else "{}", metadata="NaN" if field == "metadata" else None
    )
    with pytest.raises(LogExportError) as caught:
        exported(sqlite_engine)
    assert (caught.value.event_id, caught.value.position, caught.value.field) == (UUID(int=8), 1, field)


def test_a_payload_that_was_stored_over_several_lines_is_one_line(sqlite_engine: Engine) -> None:
    insert_raw(sqlite_engine, UUID(int=8), data='{\r\n  "a": "b\\nc"\n}')
    _, only = exported(sqlite_engine)
    assert "\n" not in only
    assert json.loads(only)["event_data"] == {"a": "b\nc"}


# --- what is there already ---


def test_an_import_can_be_repeated(log: Engine) -> None:
    assert imported(log, exported(log), batch_size=2) == ImportedLog(0, 5)


def test_an_import_adds_what_is_missing(empty: Engine) -> None:
    imported(empty, [HEADER, line(1), line(2)])
    assert imported(empty, [HEADER, line(1), line(2), line(3), line(4)]) == ImportedLog(2, 2)


@pytest.mark.parametrize(
    ("stored", "again"),
    [
        ('{"a":1.5,"b":2}', '{"b":2.0,"a":1.50}'),
        ('{"a":"é"}', '{ "a" : "\\u00e9" }'),
        ('{"a":100}', '{"a":1e2}'),
    ],
)
def test_the_same_content_in_other_words_is_the_same(empty: Engine, stored: str, again: str) -> None:
    imported(empty, [HEADER, line(1, event_data=stored)])
    assert imported(empty, [HEADER, line(1, event_data=again, occurred_at='"2026-05-04T14:00:00.123456+02:00"')]).skipped == 1


@pytest.mark.parametrize("batch_size", [1, 10])
def test_an_event_that_comes_twice_is_taken_once(empty: Engine, batch_size: int) -> None:
    assert imported(empty, [HEADER, line(1), line(1, position="2")], batch_size=batch_size) == ImportedLog(1, 1)


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_data", '{"text":"other"}'),
        ("event_data", '{"text":1}'),
        ("metadata", "{}"),
        ("aggregate_id", '"o-2"'),
        ("occurred_at", '"2026-05-04T12:00:00.123457Z"'),
        ("correlation_id", f'"{UUID(int=5)}"'),
    ],
)
def test_an_event_id_with_other_content_is_refused(empty: Engine, batch_size: int, field: str, value: str) -> None:
    number, place, reason = refused(empty, HEADER, line(1), line(1, position="2", **{field: value}), batch_size=batch_size)
    assert (number, place) == (3, "event_id")
    assert reason == f"{UUID(int=1)} is there already, as version 1 of Order 'o-1', with another {field}"


def recorded_at(engine: Engine, number: int) -> datetime:
    """Tell when the *number*-th event of a log of these tests was recorded."""
    with engine.connect() as connection:
        moment: datetime = connection.scalars(select(EVENTS.c.recorded_at).where(EVENTS.c.version == number)).one()
        return moment


def test_a_moved_log_keeps_when_it_was_recorded(log: Engine, other_postgres: Engine) -> None:
    columns = EVENTS.c.position, EVENTS.c.recorded_at
    with log.connect() as connection:
        before = connection.execute(select(*columns).order_by(columns[0])).all()
    imported(other_postgres, exported(log))
    with other_postgres.connect() as connection:
        assert connection.execute(select(*columns).order_by(columns[0])).all() == before


def test_an_event_that_is_there_keeps_its_own_time_of_recording(empty: Engine) -> None:
    imported(empty, [HEADER, line(1)])
    again = line(1, recorded_at='"2026-06-01T00:00:00+00:00"')
    assert imported(empty, [HEADER, again]) == ImportedLog(0, 1)
    assert recorded_at(empty, 1) == datetime(2026, 5, 9, 8, 0, 0, 654321, tzinfo=UTC)


def test_an_export_of_the_first_format_tells_when_an_event_was_recorded_by_its_id(empty: Engine) -> None:
    made = datetime(2026, 5, 4, 15, 30, 0, 250_000, tzinfo=UTC)
    version_7 = UUID(int=int(made.timestamp() * 1000) << 80 | 0x7ABC << 64 | 0b10 << 62)
    lines = [
        line(1, recorded_at=None, event_id=f'"{version_7}"'),
        line(2, recorded_at=None),
        line(3, recorded_at=None, occurred_at='"2199-01-01T00:00:00+00:00"'),
    ]
    before = datetime.now(UTC)
    assert imported(empty, [OLD_HEADER, *lines]) == ImportedLog(3, 0)
    assert recorded_at(empty, 1) == made
    assert recorded_at(empty, 2) == datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)
    assert before <= recorded_at(empty, 3) <= datetime.now(UTC)
    assert imported(empty, [OLD_HEADER, *lines]) == ImportedLog(0, 3)


def test_an_id_that_was_made_in_the_future_tells_that_it_was_by_now(empty: Engine) -> None:
    version_7 = UUID(int=(2**48 - 1) << 80 | 0x7ABC << 64 | 0b10 << 62)
    before = datetime.now(UTC)
    imported(empty, [OLD_HEADER, line(1, recorded_at=None, event_id=f'"{version_7}"')])
    assert before <= recorded_at(empty, 1) <= datetime.now(UTC)


def test_true_is_not_one(empty: Engine) -> None:
    imported(empty, [HEADER, line(1, event_data='{"a":true}')])
    assert refused(empty, HEADER, line(1, event_data='{"a":1}'))[:2] == (2, "event_id")


# --- streams ---


@pytest.mark.parametrize("batch_size", [1, 10])
@pytest.mark.parametrize(
    ("events", "number", "reason"),
    [
        ((line(1), line(3)), 3, "Order 'o-1' is at version 1, so that version 2 must come next, not 3"),
        ((line(2),), 2, "Order 'o-1' is at version 0, so that version 1 must come next, not 2"),
        ((line(1), line(2), line(3, version="2")), 4, "Order 'o-1' has another event at version 2 already, and is at version 2"),
    ],
)
def test_versions_must_follow_one_another(
    empty: Engine, batch_size: int, events: tuple[str, ...], number: int, reason: str
) -> None:
    assert refused(empty, HEADER, *events, batch_size=batch_size) == (number, "version", reason)


def test_versions_must_follow_what_is_stored(log: Engine) -> None:
    assert refused(log, HEADER, line(9, version="3")) == (
        2,
        "version",
        "Order 'o-1' has another event at version 3 already, and is at version 3",
    )
    assert refused(log, HEADER, line(9, version="5"))[2] == "Order 'o-1' is at version 3, so that version 4 must come next, not 5"
    assert imported(log, [HEADER, line(9, version="4")]) == ImportedLog(1, 0)


def test_a_writer_that_comes_between_is_noticed(postgres_log: Engine) -> None:
    with Session(postgres_log) as session, ThreadPoolExecutor(1) as threads:
        order = Order(id="o-2")
        order.apply_event(NoteAdded(text="between"))
        session.add(order)
        session.flush()  # not visible to the import, which waits for it
        lines = [HEADER, line(9, version="4"), line(10, version="1", aggregate_id='"o-2"')]
        result = threads.submit(imported, postgres_log, lines)
        wait_until(lambda: number_waiting(postgres_log))
        session.commit()
        with pytest.raises(LogImportError, match="line 3, version: another transaction is writing to Order 'o-2'"):
            result.result(timeout=30)
    assert ("Order", "o-1", 4, "NoteAdded") not in stored_events(postgres_log)


def test_empty_lines_are_passed_over_but_counted(empty: Engine) -> None:
    assert imported(empty, [HEADER, "", line(1), "\n"]).added == 1
    assert refused(empty, HEADER, "", line(2, version="9"))[0] == 3


def test_progress_is_told_batch_by_batch(empty: Engine) -> None:
    told: list[ImportedLog] = []
    note: Callable[[ImportedLog], object] = told.append
    with empty.begin() as connection:
        import_events(connection, EVENTS, [HEADER, *(line(number) for number in range(1, 6))], batch_size=2, on_progress=note)
    assert [done.added for done in told] == [2, 4, 5]


def test_long_lines_are_sent_in_smaller_batches(empty: Engine) -> None:
    told: list[ImportedLog] = []
    long = as_json({"text": "x" * 3_000_000})
    with empty.begin() as connection:
        lines = [HEADER, *(line(number, event_data=long) for number in range(1, 5))]
        import_events(connection, EVENTS, lines, on_progress=told.append)
    assert [done.added for done in told] == [3, 4]


def test_streams_that_are_no_longer_remembered_are_asked_for_again(empty: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sa_eventsource.transfer.import_target._KNOWN_STREAMS", 1)
    events = [
        line(number, aggregate_id=f'"o-{number % 3}"', version=str(number // 3 + 1), event_id=f'"{UUID(int=number + 1)}"')
        for number in range(12)
    ]
    assert imported(empty, [HEADER, *events], batch_size=2) == ImportedLog(12, 0)


def test_what_the_library_reads_is_what_was_imported(empty: Engine) -> None:
    imported(empty, [HEADER, line(1)])
    note_elsewhere(empty, "o-1")
    assert '"hello"' in succeed("show", BASE, "Order", "o-1", engine=empty).stdout
