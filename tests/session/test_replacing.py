"""SQLite replaces no event, whatever brings two rows together; all other ways to meet a row are as they were."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from tests import PARTITIONS
from tests.session.helpers import place_order, stored_events

NEW = {"event_id": uuid4().hex, "aggregate_id": "o-2", "position": 77}
MEETINGS = {
    "by the event's id": ("aggregate_id", "position"),
    "by its position": ("event_id", "aggregate_id"),
    "by stream and version": ("event_id", "position"),
}
UNIQUE = MEETINGS if PARTITIONS is None else ["by stream and version"]
"""What a constraint refuses: the tables of a log that has partitions on PostgreSQL are the same here."""


@pytest.fixture
def log(sqlite_engine: Engine) -> Engine:
    place_order(sqlite_engine, "o-1")
    return sqlite_engine


def _insert(engine: Engine, how: str, row: dict[str, Any], recursive: bool = False) -> int:
    names = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA recursive_triggers = {int(recursive)}")
        connection.commit()
        number = connection.execute(text(f"{how} INTO events ({names}) VALUES ({values})"), row).rowcount
        connection.commit()
        return number


def _row(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return dict(connection.execute(text("SELECT * FROM events")).mappings().one())


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.parametrize("how", ["INSERT OR REPLACE", "REPLACE"])
def test_a_row_is_not_replaced(log: Engine, how: str, meeting: str, recursive: bool) -> None:
    before = stored_events(log)
    row = _row(log) | {name: NEW[name] for name in MEETINGS[meeting]}
    with pytest.raises(IntegrityError, match="events are immutable: REPLACE refused"):
        _insert(log, how, row, recursive)
    assert stored_events(log) == before


def test_a_row_is_not_replaced_by_its_internal_number(log: Engine) -> None:
    before = stored_events(log)
    with pytest.raises(IntegrityError, match="events are immutable"):
        _insert(log, "REPLACE", {"rowid": 1, **_row(log), **NEW})
    assert stored_events(log) == before


@pytest.mark.parametrize("meeting", UNIQUE)
def test_a_row_that_is_there_is_ignored_where_that_is_asked_for(log: Engine, meeting: str) -> None:
    row = _row(log) | {name: NEW[name] for name in MEETINGS[meeting]}
    assert _insert(log, "INSERT OR IGNORE", row) == 0
    assert len(stored_events(log)) == 1


@pytest.mark.parametrize("meeting", UNIQUE)
def test_a_plain_insert_says_what_it_has_met(log: Engine, meeting: str) -> None:
    row = _row(log) | {name: NEW[name] for name in MEETINGS[meeting]}
    with pytest.raises(IntegrityError, match=r"UNIQUE constraint failed: events\."):
        _insert(log, "INSERT", row)


@pytest.mark.parametrize("how", ["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE"])
def test_a_new_row_goes_in(log: Engine, how: str) -> None:
    assert _insert(log, how, _row(log) | NEW) == 1
    assert len(stored_events(log)) == 2
