"""Deployment-safe versions: an old and a new release side by side, in two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, text

from sa_eventsource import EventReplayer
from tests.bank import Deposited
from tests.committing import commit_events
from tests.processes import end, start
from tests.projections.releases import release
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


def deposit(engine: Engine, account_class: type[Any], *amounts: int, branch: str = "main") -> None:
    commit_events(engine, account_class, "a", *(Deposited(amount=amount, branch=branch) for amount in amounts))


def rows(engine: Engine, statement: str) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


@pytest.mark.slow
def test_a_new_version_is_built_beside_the_old_one_and_takes_over(postgres_engine: Engine) -> None:
    (old_base, old_account), (new_base, new_account) = release(1), release(2)
    old_base.metadata.create_all(postgres_engine)
    shared = "SELECT (data->>'total')::int FROM projections WHERE projection_name = '{}'"
    counted = "SELECT (data->>'number')::int FROM projections WHERE projection_name = 'takings@2'"
    deposit(postgres_engine, old_account, 150, 250)
    with worker(postgres_engine, 1):
        wait_until(lambda: rows(postgres_engine, shared.format("takings")) == [(400,)])
        new_base.metadata.create_all(postgres_engine)  # the migration of the new release
        with worker(postgres_engine, 2):
            deposit(postgres_engine, old_account, 300)
            deposit(postgres_engine, new_account, 400, branch="other")
            for name in ("takings", "takings@2"):
                wait_until(lambda name=name: rows(postgres_engine, shared.format(name)) == [(1100,)])  # type: ignore[misc]
            wait_until(lambda: rows(postgres_engine, counted) == [(4,)])
            wait_until(
                lambda: rows(postgres_engine, "SELECT branch, number FROM branches_v2 ORDER BY 1") == [("main", 3), ("other", 1)]
            )
            old = [("main", 700), ("other", 400)]
            wait_until(lambda: rows(postgres_engine, "SELECT branch, total FROM branches ORDER BY 1") == old)
    with worker(postgres_engine, 2):
        replayer = EventReplayer(postgres_engine, new_base)
        assert (replayer.retire("takings"), replayer.retire("branches")) == (1, 0)
        deposit(postgres_engine, new_account, 100)
        wait_until(lambda: rows(postgres_engine, counted) == [(5,)])
    left = rows(postgres_engine, "SELECT projection_name FROM projection_positions ORDER BY 1")
    assert left == [("branches@2",), ("takings@2",)]
    assert rows(postgres_engine, shared.format("takings")) == []
