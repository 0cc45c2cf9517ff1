"""Lines that are as an export writes them go in by COPY; all others are looked at one by one, and nothing else is different."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, text

from sa_eventsource import ImportedLog, LogImportError, import_events
from sa_eventsource.transfer.copy_in import PlainBatch
from sa_eventsource.transfer.plain_lines import PlainEvent, plain_event
from tests.cli.exported_lines import HEADER, OLD_HEADER, exactly, line
from tests.cli.logs import EVENTS, exported, imported, without_and_by_copy
from tests.orders import Base
from tests.session.helpers import stored_events


@pytest.fixture
def postgres_empty(postgres_engine: Engine) -> Engine:
    Base.metadata.create_all(postgres_engine)
    return postgres_engine


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each batch that COPY was tried for, whether it went in."""
    found: list[bool] = []
    insert = PlainBatch.insert

    def noted(batch: PlainBatch, connection: Connection, events: object) -> None:
        found.append(False)
        insert(batch, connection, events)  # type: ignore[arg-type]
        found[-1] = True

    monkeypatch.setattr(PlainBatch, "insert", noted)
    return found


def test_what_was_exported_is_copied(postgres_log: Engine, other_postgres: Engine, copied: list[bool]) -> None:
    assert imported(other_postgres, exported(postgres_log), batch_size=2) == ImportedLog(5, 0)
    assert copied == [True, True, True]
    assert stored_events(other_postgres) == stored_events(postgres_log)


def test_what_was_exported_on_sqlite_is_copied_too(
    sqlite_engine: Engine, postgres_log: Engine, other_postgres: Engine, copied: list[bool]
) -> None:
    Base.metadata.create_all(sqlite_engine)
    lines = exported(postgres_log)
    imported(sqlite_engine, lines)
    assert copied == []
    imported(other_postgres, exported(sqlite_engine))
    assert copied == [True]
    assert [exactly(each) for each in exported(other_postgres)[1:]] == [exactly(each) for each in lines[1:]]


def test_streams_that_the_log_has_are_looked_up_once(postgres_empty: Engine, copied: list[bool]) -> None:
    imported(postgres_empty, [HEADER, line(1), line(2)])
    copied.clear()
    assert imported(postgres_empty, [HEADER, line(3), line(4), line(5)], batch_size=2).added == 3
    assert copied == [False, True, True]


def test_what_is_there_already_is_skipped_and_the_rest_copied(postgres_empty: Engine, copied: list[bool]) -> None:
    lines = [HEADER, *(line(number) for number in range(1, 9))]
    imported(postgres_empty, lines[:4])
    copied.clear()
    assert imported(postgres_empty, lines, batch_size=2) == ImportedLog(5, 3)
    # The first is found to be there, the second is not tried, and of the third on all are new.
    assert copied == [False, True]
    assert [each[2] for each in stored_events(postgres_empty)] == list(range(1, 9))


@pytest.mark.parametrize("listening", ["before_cursor_execute", "before_execute", "autocommit", "first format"])
def test_it_is_not_used_where_it_would_pass_somebody_by(postgres_empty: Engine, copied: list[bool], listening: str) -> None:
    lines = [HEADER, line(1)] if listening != "first format" else [OLD_HEADER, line(1, recorded_at=None)]
    options = {"isolation_level": "AUTOCOMMIT"} if listening == "autocommit" else {}
    with postgres_empty.connect().execution_options(**options) as connection:
        if listening.startswith("before"):
            event.listen(connection, listening, lambda *_: None)
        assert import_events(connection, EVENTS, lines).added == 1
        connection.commit()
    assert copied == []
    assert len(stored_events(postgres_empty)) == 1


def test_rows_that_a_trigger_leaves_out_are_noticed(postgres_empty: Engine, copied: list[bool]) -> None:
    with postgres_empty.begin() as connection:
        connection.execute(text("CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"))
        condition = "WHEN (NEW.version = 2)"
        connection.execute(
            text(f"CREATE TRIGGER leaves_out BEFORE INSERT ON events FOR EACH ROW {condition} EXECUTE FUNCTION leave_out()")
        )
    with pytest.raises(LogImportError, match="line 3, version"):
        imported(postgres_empty, [HEADER, line(1), line(2), line(3)])
    assert copied == [False]
    assert stored_events(postgres_empty) == []


def test_a_batch_that_failed_leaves_what_the_transaction_did_before(postgres_empty: Engine) -> None:
    with postgres_empty.connect() as connection:
        import_events(connection, EVENTS, [HEADER, line(1)])
        with pytest.raises(LogImportError):
            import_events(connection, EVENTS, [HEADER, line(2, event_data='{"a":"\\u0000"}')])
        assert connection.scalar(text("SELECT count(*) FROM events")) == 1
        connection.commit()
    assert len(stored_events(postgres_empty)) == 1


def test_ids_in_a_schema_of_its_own_are_copied_there(postgres_engine: Engine, copied: list[bool]) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(text('CREATE SCHEMA "tenant %s"'))
    tenant = postgres_engine.execution_options(schema_translate_map={None: "tenant %s"})
    with tenant.begin() as connection:
        Base.metadata.create_all(connection)
        assert import_events(connection, EVENTS, [HEADER, line(1)]).added == 1
    assert copied == [True]
    with postgres_engine.connect() as connection:
        assert connection.scalar(text('SELECT count(*) FROM "tenant %s".events')) == 1


# --- the pattern takes nothing that the exact reader refuses ---

_TEXTS = st.sampled_from(
    [
        *("null", "{}", "[]", '""', "0", "1", "-1", "01", "1.0", "1e3", "true", "NaN", "9" * 18, "9" * 19, "2147483648", "99999"),
        *(
            '{"a":1}',
            '{"a":1},"metadata":{"b":2}',
            '{"a":1},"b":{"c":2}',
            '{"a":"\\u0000"}',
            '{"a":"\\ud800"}',
            '{"a":"\\\\u0000"}',
        ),
        *('{"a":1e131071}', '{"a":1e131072}', '{"a":1e-16383}', '{"a":1e-16384}', '{"a":-0}', '{"a":0.10}', '{"a":01}', "{'a':1}"),
        *(
            '{"a":"\t"}',
            '{"a":"\\t\\n\\\\"}',
            '{"a":"é\u2028\x7f"}',
            '{"a" : [ 1 , {"b":null} ] }',
            '{"a":1,"a":2}',
            '{"a":1}}',
            "{{}",
        ),
        *("{" + '"a":{' * 300 + "}" * 301, '{"a":' + "[" * 600 + "]" * 600 + "}", '{"a":' + "[" * 400 + "]" * 400 + "}"),
        *('"Order"', '"o\\t1"', '"o\t1"', '"\\\\N"', '"null"', '"' + "x" * 255 + '"', '"' + "x" * 256 + '"', '"é\u2028"', '"\x7f"'),
        *(
            '"2026-02-29T12:00:00+00:00"',
            '"2024-02-29T12:00:00+00:00"',
            '"2026-13-01T12:00:00+00:00"',
            '"0000-01-01T12:00:00+00:00"',
        ),
        *('"0001-01-01T00:00:00+00:00"', '"9999-12-31T23:59:59.999999+00:00"', '"2026-01-01T24:00:00+00:00"'),
        *(
            '"2026-01-01T12:00:60+00:00"',
            '"2026-01-01T12:00:00Z"',
            '"2026-01-01T12:00:00.1+00:00"',
            '"2026-01-01T12:00:00.1234567+00:00"',
        ),
        *('"2026-01-01T12:00:00+01:00"', '"2026-01-01 12:00:00+00:00"', '"infinity"', '"now"'),
        *(
            f'"{UUID(int=7)}"',
            f'"{str(UUID(int=171)).upper()}"',
            f'"{UUID(int=7).hex}"',
            '"{00000000-0000-0000-0000-000000000007}"',
        ),
    ]
)
_FIELDS = st.sampled_from(list(PlainEvent._fields[1:]))


@st.composite
def _changed_lines(draw: st.DrawFn) -> str:
    changes = draw(st.dictionaries(_FIELDS, _TEXTS, min_size=1, max_size=2))
    made = line(1, **changes)
    if draw(st.booleans()):
        return made + draw(st.sampled_from(["\n", "\r\n", " ", "\n\n", "\r", "x"]))
    place = draw(st.integers(0, len(made)))
    inserted = draw(st.sampled_from(["", " ", '"', "\\", "\t", ",", "{", "}", "\x00", "\x1f", "é", "\ud800"]))
    return made[:place] + inserted + made[place + draw(st.integers(0, 1)) :]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(changed=_changed_lines())
@example(changed=line(1, event_data='{"a":1},"metadata":{"b":2}'))
@example(changed=line(1, aggregate_id='"\ud800"'))
@example(changed=line(1, version='"1"'))
def test_by_copy_or_not_the_outcome_is_the_same(forgetful: Engine, changed: str) -> None:
    meant, by_copy = without_and_by_copy(forgetful, lambda connection: import_events(connection, EVENTS, [HEADER, changed]))
    assert by_copy == meant


def test_lines_of_an_export_are_plain_and_others_are_not() -> None:
    assert plain_event(line(1)) is not None
    assert plain_event(line(1) + "\r\n") is not None
    for changed in (line(1).replace(",", ", ", 1), line(1, event_data="[]"), line(1, metadata="[]"), line(1) + " "):
        assert plain_event(changed) is None
