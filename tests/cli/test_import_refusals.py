"""What an import refuses to read, and how it says so: line, field, reason."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine

from sa_eventsource import LogImportError
from tests.cli.exported_lines import HEADER, OLD_HEADER, header, line
from tests.cli.logs import exported, imported, refused

pytestmark = pytest.mark.slow_on_sqlite

_HUGE = "1" + "0" * 131_072
_DEEP = '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), (1, "", "there is nothing")),
        (("",), (1, "", "it is not JSON")),
        ((line(1),), (1, "format", "there must be the header of an export first")),
        (('{"format":"csv"}',), (1, "format", "there must be the header of an export first")),
        (('{"format":"sa_eventsource.events"}',), (1, "format_version", "it is missing")),
        ((HEADER.replace(":2,", ":3,"),), (1, "format_version", "3 is not known; this release reads versions 1 to 2")),
        ((HEADER.replace("+00:00", ""),), (1, "exported_at", "has no offset")),
        ((HEADER[:-1] + ',"by":"ann"}',), (1, "by", "it is not a field of the format")),
        ((header(-1),), (1, "count", "is not an integer from 0")),
        ((header("2"),), (1, "count", "is not an integer from 0")),
        ((header(3), line(1), line(2)), (3, "", "the header says 3 events, and there are 2; the file was cut off")),
        ((header(1), line(1), line(2)), (3, "", "the header says 1 event, and there are 2")),
        ((header(1),), (1, "", "the file was cut off")),
        ((HEADER, line(1), line(2, position="1")), (3, "position", "1 does not come after 1")),
        ((HEADER, line(1)[:-2]), (2, "recorded_at", "it is not JSON")),
        ((HEADER, "[]"), (2, "", "it is not JSON: Expecting {")),
        ((HEADER, "{} {}"), (2, "", "it is not JSON: Extra data")),
        ((HEADER, "{,}"), (2, "", "it is not JSON")),
        ((HEADER, '{"a" 1}'), (2, "a", "it is not JSON: Expecting :")),
        ((HEADER, '{"a":1,}'), (2, "", "it is not JSON")),
        ((HEADER, '{"a":1 "b":2}'), (2, "", "it is not JSON: Expecting }")),
        ((HEADER, "{"), (2, "", "it is not JSON")),
        ((HEADER, '{"a":1,"a":1}'), (2, "a", "it is there twice")),
        ((HEADER, '{"a":"\x01"}'), (2, "a", "it is not JSON: Invalid control character")),
        ((HEADER, line(1)[:-1] + ',"extra":1}'), (2, "extra", "it is not a field of the format, version 2")),
        ((OLD_HEADER, line(1)), (2, "recorded_at", "it is not a field of the format, version 1")),
    ],
)
def test_a_file_that_is_no_export_is_refused(empty: Engine, lines: tuple[str, ...], expected: tuple[int, str, str]) -> None:
    number, field, reason = refused(empty, *lines)
    assert (number, field) == expected[:2]
    assert expected[2] in reason


@pytest.mark.parametrize("field", list(json.loads(line(1))))
def test_a_missing_field_is_refused(empty: Engine, field: str) -> None:
    assert refused(empty, HEADER, line(1, **{field: None})) == (2, field, "it is missing")


@pytest.mark.parametrize(
    ("field", "value", "place", "message"),
    [
        ("position", "-1", "position", "-1 is not an integer from 0"),
        ("position", "1.0", "position", "1.0 is not an integer"),
        ("version", '"1"', "version", '"1" is not an integer'),
        ("version", "0", "version", "0 is not an integer from 1 to 2147483647"),
        ("version", "true", "version", "true is not an integer"),
        ("version", "2147483648", "version", "is not an integer from 1 to 2147483647"),
        ("event_version", "32768", "event_version", "is not an integer from 1 to 32767"),
        ("event_version", "null", "event_version", "null is not an integer"),
        ("event_id", "null", "event_id", "null is not a UUID"),
        ("event_id", '"abc"', "event_id", '"abc" is not a UUID'),
        ("correlation_id", "5", "correlation_id", "5 is not a UUID"),
        ("causation_id", '""', "causation_id", "is not a UUID"),
        ("aggregate_type", "5", "aggregate_type", "5 is not a string"),
        ("aggregate_type", '""', "aggregate_type", "it is empty"),
        ("aggregate_id", f'"{"x" * 256}"', "aggregate_id", "it has 256 characters, and at most 255 are stored"),
        ("aggregate_id", '"a\\u0000b"', "aggregate_id", "it holds a NUL character"),
        ("aggregate_id", '"\\ud800"', "aggregate_id", "it holds half of a surrogate pair"),
        ("event_type", f'"{"x" * 256}"', "event_type", "it has 256 characters"),
        ("recorded_at", '"2026-05-04T12:00:00"', "recorded_at", "has no offset; write it, such as +00:00"),
        ("recorded_at", "null", "recorded_at", "is not a time in ISO 8601"),
        ("occurred_at", '"2026-05-04T12:00:00"', "occurred_at", "has no offset; write it, such as +00:00"),
        ("occurred_at", '"noon"', "occurred_at", '"noon" is not a time in ISO 8601'),
        ("occurred_at", "1777896000", "occurred_at", "is not a time in ISO 8601"),
        ("occurred_at", '"2026-05-04T12:00:00.1234567Z"', "occurred_at", "is finer than microseconds"),
        ("occurred_at", '"0001-01-01T00:00:00+14:00"', "occurred_at", "it must lie from 0001-01-02"),
        ("occurred_at", '"0001-01-01T00:00:00+00:00"', "occurred_at", "could not be read back from the log"),
        ("occurred_at", '"9999-12-31T23:59:59+00:00"', "occurred_at", "could not be read back from the log"),
        ("recorded_at", '"9999-12-31T23:59:59+00:00"', "recorded_at", "could not be read back from the log"),
        ("event_data", "null", "event_data", "it is null"),
        ("event_data", '{"lines":[{"note":"a\\u0000b"}]}', "event_data.lines.0.note", "it holds a NUL character"),
        ("event_data", '{"a\\u0000":1}', "event_data", "in one of its keys, it holds a NUL character"),
        ("event_data", '{"a":"\\udc00"}', "event_data.a", "half of a surrogate pair"),
        ("event_data", '{"a":NaN}', "event_data", "NaN is not a number that JSON can hold"),
        ("event_data", '{"a":-Infinity}', "event_data", "-Infinity is not a number"),
        ("event_data", f'{{"a":{_HUGE}}}', "event_data", "is beyond what PostgreSQL's numeric holds"),
        ("event_data", '{"a":1e200000}', "event_data", "is beyond what PostgreSQL's numeric holds"),
        ("event_data", '{"a":1e-20000}', "event_data", "is beyond what PostgreSQL's numeric holds"),
        ("event_data", '{"a":1e99999999999999999999}', "event_data", "is beyond what PostgreSQL's numeric holds"),
        ("event_data", _DEEP, "event_data", "it is nested too deeply"),
        ("event_data", "{'a':1}", "event_data", "it is not JSON"),
        ("metadata", "[]", "metadata", "[] is neither an object nor null"),
        ("metadata", '{"user":"\\u0000"}', "metadata.user", "it holds a NUL character"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_a_value_that_does_not_fit_is_refused(empty: Engine, field: str, value: str, place: str, message: str) -> None:
    number, found, reason = refused(empty, HEADER, line(1, **{field: value}))
    assert (number, found) == (2, place)
    assert message in reason
    assert len(reason) < 200


@pytest.mark.parametrize(
    "text", ['{"a":1e131071}', '{"a":1e-16383}', '{"a":"\\ud83d\\ude00 \\\\u0000"}', '{"a":' + "9" * 5000 + "}"]
)
def test_a_value_that_just_fits_is_taken(empty: Engine, text: str) -> None:
    imported(empty, [HEADER, line(1, event_data=text)])
    assert imported(empty, exported(empty)).skipped == 1


def test_the_message_names_line_field_and_reason(empty: Engine) -> None:
    with pytest.raises(LogImportError) as caught:
        imported(empty, [HEADER, line(1, version="0")])
    assert str(caught.value) == "line 2, version: 0 is not an integer from 1 to 2147483647"
