"""What an announcer sends, over which connection, and when."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, event, text

from sa_eventsource.workers import Announcer
from tests.waiting import wait_until

CUT = text("""
    SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'NOTIFY%'
""")


class Ear:
    """Counts announcements."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self.heard = 0

    def hears(self, count: int) -> bool:
        """Listen for a moment; tell whether there were so many in all."""
        self.heard += len(list(self._connection.notifies(timeout=0.05)))
        return self.heard >= count


@pytest.fixture
def ear(postgres_engine: Engine) -> Iterator[Ear]:
    url = postgres_engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN sa_eventsource")
        yield Ear(connection)


def test_announcements_go_over_one_connection_that_the_pool_does_not_count(postgres_engine: Engine, ear: Ear) -> None:
    engine = create_engine(postgres_engine.url, pool_size=1, max_overflow=0)
    opened: list[object] = []
    event.listen(engine, "connect", lambda connection, _: opened.append(connection))
    with Announcer(engine) as announcer:
        for count in (1, 2, 3):
            announcer.announce()
            wait_until(lambda: ear.hears(count))
        assert len(opened) == 1
        with engine.connect():
            assert len(opened) == 2
    assert ear.heard == 3
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        wait_until(lambda: connection.scalar(CUT) == 0, "its connection stays open")
    engine.dispose()


def test_one_that_was_cut_off_while_it_was_idle_announces_at_once(
    postgres_engine: Engine, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "sa_eventsource")
    with Announcer(postgres_engine) as announcer:
        announcer.announce()
        wait_until(lambda: ear.hears(1))
        with postgres_engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            assert connection.scalar(CUT) == 1
        announcer.announce()
        wait_until(lambda: ear.hears(2))
    assert caplog.text == ""


def test_what_was_committed_before_the_end_is_announced(postgres_engine: Engine, ear: Ear) -> None:
    """It pauses between two; the end may come then."""
    for number in range(10):
        with Announcer(postgres_engine) as announcer:
            announcer.announce()
            wait_until(lambda: ear.hears(2 * number + 1))
            announcer.announce()
        wait_until(lambda: ear.hears(2 * number + 2))


def test_an_announcement_that_failed_is_reported_and_the_next_one_is_sent(
    postgres_engine: Engine, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "sa_eventsource")
    refusals = [ConnectionRefusedError("no tokens today")]

    @event.listens_for(postgres_engine, "do_connect")
    def fetch_token(*_: object) -> None:
        if refusals:
            raise refusals.pop()

    with Announcer(postgres_engine) as announcer:
        announcer.announce()
        wait_until(lambda: "a commit could not be announced: no tokens today" in caplog.text)
        announcer.announce()
        wait_until(lambda: ear.hears(1))
