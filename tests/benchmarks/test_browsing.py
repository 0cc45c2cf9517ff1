"""The benchmark of the event browser: its log is as it says, and each page is there."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Engine, text

from benchmarks.browsing import fill, measure


@pytest.mark.slow
def test_each_page_is_measured_over_a_log_in_which_each_order_goes_its_way(postgres_engine: Engine) -> None:
    fill(postgres_engine, 140_000, commands=2_000)
    with postgres_engine.connect() as connection:
        types = connection.execute(
            text(
                "SELECT string_agg(event_type || ' ' || event_version, ', ' ORDER BY position) FROM events"
                " WHERE aggregate_id = 'order-00012345'"
            )
        ).scalar_one()
        gone = connection.execute(
            text(
                "SELECT count(*) FROM events e LEFT JOIN events c ON c.event_id = e.causation_id WHERE e.version > 1 AND c IS NULL"
            )
        ).scalar_one()
    moved = "browsing.Moved 1"
    assert types == f"browsing.Placed 2, browsing.Begun 1, {moved}, {moved}, {moved}, browsing.Ended 1, {moved}"
    assert gone == 0
    table = asyncio.run(measure(postgres_engine, 140_000, times=1))
    assert table.row_count == 33
