"""What ``benchmarks.storage`` calls the bytes of an event and the cost of an index is that."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, inspect, text

from benchmarks.accounts import Base, fill
from benchmarks.storage import append_times, copy_without, definitions_of_indexes, sizes_of
from tests import PARTITIONS

pytestmark = pytest.mark.skipif(PARTITIONS is not None, reason="its copies are made of a log without partitions")

EVENTS = 400


@pytest.fixture
def filled(postgres_engine: Engine) -> Engine:
    Base.metadata.create_all(postgres_engine)
    fill(postgres_engine, EVENTS)
    return postgres_engine


def test_the_parts_come_to_what_postgresql_says_of_the_table(filled: Engine) -> None:
    found = sizes_of(filled, "events")
    with filled.connect() as connection:
        assert found.total == connection.scalar(text("SELECT pg_total_relation_size('events')"))
    assert found.rows > EVENTS * 100
    assert set(found.indexes) == set(definitions_of_indexes(filled))
    assert {"events_pkey", "ix_events_transaction_id"} <= set(found.indexes)


def test_long_payloads_are_kept_outside_of_the_rows(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    fill(postgres_engine, 100, padding=8_000)
    with postgres_engine.connect() as connection:
        lengths = connection.scalars(text("SELECT length(event_data->>'reference') FROM events")).all()
    assert set(lengths) == {len("RF18 5390 0754 7034") + 8_000}
    assert sizes_of(postgres_engine, "events").toast > 100 * 2_000


def test_a_copy_has_the_same_events_and_all_indexes_but_one(filled: Engine) -> None:
    whole, lacking = copy_without(filled, None), copy_without(filled, "ix_events_event_type")
    same = "SELECT count(*) FROM events JOIN {} AS copy USING (event_id, position, transaction_id, event_data)"
    with filled.connect() as connection:
        for copy in (whole, lacking):
            assert connection.scalar(text(same.format(copy))) == EVENTS
    assert len(inspect(filled).get_indexes(whole)) == len(definitions_of_indexes(filled))
    columns = [each["column_names"] for each in inspect(filled).get_indexes(lacking)]
    assert len(columns) == len(definitions_of_indexes(filled)) - 1
    assert ["event_type"] not in columns


def test_each_copy_gets_the_same_appends(filled: Engine) -> None:
    times = append_times(filled, EVENTS, appends=40, rounds=2)
    assert set(times) == {None, *definitions_of_indexes(filled)}
    assert all(len(each) == 2 for each in times.values())
    with filled.connect() as connection:
        counts = {connection.scalar(text(f"SELECT count(*) FROM without_{index or 'nothing'}")) for index in times}
        assert counts == {EVENTS + 3 * 40}
        last = connection.scalar(text("SELECT max(version) FROM without_nothing"))
    assert last == (EVENTS + 3 * 40) // 20, "the accounts' streams go on"
