"""The migration of a log from before ``recorded_at``: what the events that are there say of when they were recorded."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, inspect, select, text
from sqlalchemy.exc import DBAPIError

from sa_eventsource import EventRecord
from sa_eventsource.store.recording_times import recording_time
from tests.migrations.environment import Environment

pytestmark = [
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index"),
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
]

PAGE = Path(__file__).parents[2] / "docs/how-to/alembic.md"
EVENT = EventRecord.__table__

MADE = datetime(2026, 5, 4, 15, 30, 0, 250_000, tzinfo=UTC)
OCCURRED = datetime(2026, 5, 4, 12, 0, 0, 123_456, tzinfo=UTC)
DISTANT = datetime(2199, 1, 1, tzinfo=UTC)


def _id_made_at(moment: datetime, number: int, *, version: int = 7, variant: int = 0b10) -> UUID:
    return UUID(int=int(moment.timestamp() * 1000) << 80 | version << 76 | variant << 62 | number)


EVENTS = [
    (_id_made_at(MADE, 1), OCCURRED, MADE),
    (UUID(int=2), OCCURRED, OCCURRED),
    (_id_made_at(MADE, 3, version=4), OCCURRED, OCCURRED),
    (_id_made_at(MADE, 4, variant=0b11), OCCURRED, OCCURRED),
    (_id_made_at(DISTANT, 5), OCCURRED, None),
    (UUID(int=(2**48 - 1) << 80 | 7 << 76 | 0b10 << 62), OCCURRED, None),
    (UUID(int=7 << 76 | 0b10 << 62 | 6), OCCURRED, datetime(1970, 1, 1, tzinfo=UTC)),
    (UUID(int=8), DISTANT, None),
]
"""An event's id, when it occurred, and when it was recorded as far as can be told; None for when the migration ran."""


def _without_recorded_at(environment: Environment, table: str = "events") -> None:
    """Create the tables as the release before did, with some events."""
    environment.revise()
    (script,) = environment.versions.glob("*.py")
    lines = script.read_text().splitlines(keepends=True)
    script.write_text("".join(each for each in lines if "'recorded_at'" not in each))
    environment.upgrade()
    with environment.engine.begin() as connection:
        for version, (event_id, occurred_at, _) in enumerate(EVENTS, 1):
            on_sqlite = connection.dialect.name == "sqlite"
            connection.execute(
                text(
                    f"INSERT INTO {table} (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at, "
                    "position) VALUES (:id, 'Parcel', 'p', :version, 'ParcelSent', '{}', :occurred_at, :version)"
                ),
                {
                    "id": event_id.hex,
                    "version": version,
                    "occurred_at": f"{occurred_at:%Y-%m-%d %H:%M:%S.%f}" + ("" if on_sqlite else "+00"),
                },
            )


def _expected(before: datetime, found: dict[UUID, datetime]) -> bool:
    after = datetime.now(UTC)
    return all(
        found[event_id] == recorded_at
        if recorded_at is not None
        else before - timedelta(milliseconds=1) <= found[event_id] <= after
        for event_id, _, recorded_at in EVENTS
    )


def _recorded(engine: Engine) -> dict[UUID, datetime]:
    with engine.connect() as connection:
        rows = connection.execute(select(EVENT.c.event_id, EVENT.c.recorded_at)).all()
    assert len(rows) == len(EVENTS)
    return dict(map(tuple, rows))


def test_events_that_are_there_say_when_their_ids_were_made(tmp_path: Path, engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, engine, module)
    _without_recorded_at(environment)
    script = environment.revise("times")
    assert "op.add_recorded_at('events')" in script
    assert "op.drop_column('events', 'recorded_at')" in script
    assert "add_column(" not in script
    before = datetime.now(UTC)
    assert environment.difference() == [("add_recorded_at", "events", None)]
    environment.upgrade()
    assert environment.difference(compare_type=True) == []
    assert _expected(before, _recorded(engine))
    for statement in ("UPDATE events SET version = 100", "DELETE FROM events"):
        with pytest.raises(DBAPIError, match="immutable"), engine.begin() as connection:
            connection.execute(text(statement))
    environment.downgrade()
    assert environment.left_over() == set()
    environment.upgrade()
    assert environment.difference() == []


def test_the_migration_says_what_an_import_of_the_first_format_says() -> None:
    for event_id, occurred_at, recorded_at in EVENTS:
        before = datetime.now(UTC)
        said = recording_time(event_id, occurred_at)
        assert said == recorded_at if recorded_at is not None else before <= said <= datetime.now(UTC)


def test_a_log_in_a_schema_and_under_another_name(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    body = '__eventsource__ = EventSourceOptions(schema="history", events="domain_events")'
    environment = Environment(tmp_path, postgres_engine, module, body)
    _without_recorded_at(environment, "history.domain_events")
    assert "op.add_recorded_at('domain_events', schema='history')" in environment.revise("times")
    environment.upgrade()
    assert environment.difference(compare_type=True, compare_server_default=True) == []
    columns = {each["name"]: each for each in inspect(postgres_engine).get_columns("domain_events", "history")}
    assert not columns["recorded_at"]["nullable"]
    assert columns["recorded_at"]["default"] == "clock_timestamp()"


def test_the_steps_without_a_long_lock_lead_to_the_same(tmp_path: Path, postgres_engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, postgres_engine, module)
    _without_recorded_at(environment)
    section = PAGE.read_text(encoding="utf-8").partition("## A log from before")[2].partition("\n## ")[0]
    steps = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    assert len(steps) == 3
    before = datetime.now(UTC)
    with postgres_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for step in steps:
            connection.exec_driver_sql(step)
    assert _expected(before, _recorded(postgres_engine))
    assert environment.difference(compare_type=True, compare_server_default=True) == []


def test_a_log_that_is_made_now_has_the_column_from_the_start(tmp_path: Path, engine: Engine, module: str) -> None:
    environment = Environment(tmp_path, engine, module)
    script = environment.revise()
    assert "add_recorded_at" not in script
    assert "server_default=sa_eventsource.migrations.types.database_clock()" in script
