"""Archiving while others write, in threads and in transactions that are older."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.orm import Session

from sa_eventsource import ArchiveError, StreamArchivedError, StreamClosedError, archive, archived_streams, unarchive
from sa_eventsource.session.retry import is_conflict, retry_on_conflict
from sa_eventsource.verification import verify
from tests.databases import WAITING_FOR_EVENTS
from tests.ending.tills import Base, Till, all_rows, follow_all, sell, wrong
from tests.threads import in_thread
from tests.waiting import wait_until


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def test_of_threads_that_archive_append_and_bring_back_none_loses_an_event(postgres_engine: Engine) -> None:
    engine = create_engine(postgres_engine.url, pool_size=8)
    for till_id in ("t-1", "t-2"):
        sell(engine, till_id, "pen", "ink")
    follow_all(engine)
    with engine.connect() as connection:
        before = {till_id: all_rows(connection, till_id) for till_id in ("t-1", "t-2")}
    start, unexpected, done = threading.Barrier(5), list[BaseException](), list[str]()

    @retry_on_conflict(attempts=20)
    def once(work: Any, till_id: str) -> None:
        with Session(engine) as session:
            work(session, Till, till_id, reason="r")
            session.commit()

    def repeat(work: Any, till_id: str) -> None:
        start.wait(timeout=30)
        for _ in range(10):
            try:
                once(work, till_id)
                done.append(work.__name__)
            except (ArchiveError, StreamArchivedError):
                pass
            except BaseException as error:
                unexpected.append(error)

    def begin_again() -> None:
        start.wait(timeout=30)
        for _ in range(20):
            for till_id in ("t-1", "t-2"):
                try:
                    with Session(engine) as session:
                        till = Till(id=till_id)
                        till.sell("pen")
                        session.add(till)
                        session.commit()
                    unexpected.append(AssertionError("it began again"))
                except StreamClosedError:
                    pass
                except BaseException as error:
                    if not is_conflict(error):
                        unexpected.append(error)

    workers = [(archive, "t-1"), (unarchive, "t-1"), (archive, "t-2"), (unarchive, "t-1")]
    threads = [threading.Thread(target=repeat, args=each) for each in workers] + [threading.Thread(target=begin_again)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert unexpected == []
    assert "archive" in done
    for till_id in ("t-1", "t-2"):
        with Session(engine) as session:
            if any(each.aggregate_id == till_id for each in archived_streams(session, base=Base)):
                unarchive(session, Till, till_id, reason="r")
                session.commit()
    with engine.connect() as connection:
        assert {till_id: all_rows(connection, till_id) for till_id in ("t-1", "t-2")} == before
    assert wrong(engine) == []
    engine.dispose()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("is_new", [False, True], ids=["goes on", "begins"])
def test_a_stream_that_an_older_transaction_may_go_on_with_stays(postgres_engine: Engine, level: str, is_new: bool) -> None:
    Base.metadata.create_all(postgres_engine)
    if not is_new:
        sell(postgres_engine, "t-9", "pen", close=False)
    with Session(postgres_engine.execution_options(isolation_level=level)) as older:
        till = older.get(Till, "t-9")
        assert (till is None) is is_new
        if is_new:
            sell(postgres_engine, "t-9", "pen", close=False)
        with Session(postgres_engine) as session:
            session.get_one(Till, "t-9").sell("ink")
            session.commit()
            session.get_one(Till, "t-9").close_stream("full")
            session.commit()
        follow_all(postgres_engine)
        with Session(postgres_engine) as session, pytest.raises(ArchiveError, match="before it was closed"):
            archive(session, Till, "t-9", reason="old")
        if till is None:
            till = Till(id="t-9")
            older.add(till)
        till.sell("late")
        with pytest.raises((DBAPIError, InvalidRequestError)):
            older.commit()
    with Session(postgres_engine) as session:
        archive(session, Till, "t-9", reason="old")
        session.commit()
        unarchive(session, Till, "t-9", reason="needed")
        session.commit()
    assert verify(postgres_engine, Base).findings == ()


def test_what_is_closed_in_the_same_transaction_stays(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        till = Till(id="t-9")
        till.sell("pen")
        till.close_stream("full")
        session.add(till)
        session.flush()
        with pytest.raises(ArchiveError, match=r"before it was closed|has yet to take"):
            archive(session, Till, "t-9", reason="old")


def test_writers_wait_until_a_stream_is_archived(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    sell(postgres_engine, "t-9", "pen")
    follow_all(postgres_engine)
    with Session(postgres_engine) as session:
        archive(session, Till, "t-9", reason="old")
        writing, errors = in_thread(lambda: sell(postgres_engine, "t-10", "pen"))
        with postgres_engine.connect() as connection:
            waits = text(f"SELECT count(*) {WAITING_FOR_EVENTS}")
            wait_until(lambda: connection.scalar(waits))
        assert writing.is_alive()
        session.commit()
    writing.join(60)
    assert (writing.is_alive(), errors) == (False, [])
