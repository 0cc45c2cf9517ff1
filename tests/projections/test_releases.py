"""Deployment-safe versions: an old and a new release side by side, in two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from sa_eventsource import EventReplayer
from tests.committing import commit_events
from tests.processes import end, start
from tests.projections.releases import Sold, release
from tests.waiting import wait_until


@contextmanager
def worker(engine: Engine, number: int) -> Iterator[None]:
    """Run the worker of a release, as its operator does."""
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "sa_eventsource.cli", "run", "tests.projections.releases:Base"]
    environment = os.environ | {"RELEASE": str(number), "SA_EVENTSOURCE_URL": url}
    process = start(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield
        assert process.poll() is None
        process.terminate()
        assert process.wait(60) == 0
    finally:
        end(process)


def sell(engine: Engine, till_class: type[Any], till_id: str, *amounts: str, country: str = "se") -> None:
    commit_events(engine, till_class, till_id, *(Sold(amount=Decimal(amount), country=country) for amount in amounts))


def rows(engine: Engine, statement: str) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


@pytest.mark.slow
def test_a_new_version_is_built_beside_the_old_one_and_takes_over(postgres_engine: Engine) -> None:
    (old_base, old_till), (new_base, new_till) = release(1), release(2)
    old_base.metadata.create_all(postgres_engine)
    shared = "SELECT (data->>'total')::numeric FROM projections WHERE projection_name = '{}'"
    counted = "SELECT (data->>'number')::int FROM projections WHERE projection_name = 'takings@2'"
    sell(postgres_engine, old_till, "t", "1.50", "2.50")
    with worker(postgres_engine, 1):
        wait_until(lambda: rows(postgres_engine, shared.format("takings")) == [(Decimal("4.00"),)])
        new_base.metadata.create_all(postgres_engine)  # the migration of the new release
        with worker(postgres_engine, 2):
            sell(postgres_engine, old_till, "t", "3.00")
            sell(postgres_engine, new_till, "t", "4.00", country="no")
            for name in ("takings", "takings@2"):
                wait_until(lambda name=name: rows(postgres_engine, shared.format(name)) == [(Decimal("11.00"),)])  # type: ignore[misc]
            wait_until(lambda: rows(postgres_engine, counted) == [(4,)])
            wait_until(
                lambda: rows(postgres_engine, "SELECT country, number FROM countries_v2 ORDER BY 1") == [("no", 1), ("se", 3)]
            )
            old = [("no", Decimal("4.00")), ("se", Decimal("7.00"))]
            wait_until(lambda: rows(postgres_engine, "SELECT country, total FROM countries ORDER BY 1") == old)
    with worker(postgres_engine, 2):
        replayer = EventReplayer(postgres_engine, new_base)
        assert (replayer.retire("takings"), replayer.retire("countries")) == (1, 0)
        sell(postgres_engine, new_till, "t", "1.00")
        wait_until(lambda: rows(postgres_engine, counted) == [(5,)])
    left = rows(postgres_engine, "SELECT projection_name FROM projection_positions ORDER BY 1")
    assert left == [("countries@2",), ("takings@2",)]
    assert rows(postgres_engine, shared.format("takings")) == []
