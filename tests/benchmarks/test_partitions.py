"""The log of ``benchmarks.partitions`` has the partitions it says, and its sizes are those of all of them."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, inspect, text

from benchmarks.partitions import make_partitions, of_the_whole, table_of_sizes
from benchmarks.sizes import CASES, Log
from benchmarks.storage import sizes_of

EVENTS = 200


@pytest.mark.slow
def test_the_log_is_partitioned_and_measured_as_a_whole(postgres_engine: Engine) -> None:
    make_partitions(postgres_engine, 3)
    log = Log(postgres_engine, EVENTS)
    log.prepare()
    assert {"events_p0", "events_p1", "events_p2"} <= set(inspect(postgres_engine).get_table_names())
    assert CASES["load, change, save"](log) > 0
    taken = of_the_whole(log, 3)
    assert all(figure > 0 for figure in taken.values())
    found = sizes_of(postgres_engine, "events")
    with postgres_engine.connect() as connection:
        parts = [connection.scalar(text(f"SELECT pg_total_relation_size('events_p{number}')")) or 0 for number in range(3)]
    assert found.total == sum(parts)
    assert {"events_pkey", "ix_events_position"} <= set(found.indexes)
    assert table_of_sizes([log, log], 3).row_count == len(found.indexes) + 3
