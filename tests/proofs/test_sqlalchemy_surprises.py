"""Facts about SQLAlchemy and PostgreSQL that the library rests on, each shown without the library's own code where it can be.

If one of these fails on a new version, the design has to be thought over, whatever the other tests say.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, Engine, event, func, select, text
from sqlalchemy.exc import IntegrityError, InternalError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import EventRecord
from tests.proofs.tills import Base, Till


class PlainBase(DeclarativeBase):
    """A base without aggregates."""


class Note(PlainBase):
    """A plain row, unique by stream and version as events are."""

    __tablename__ = "note"
    stream: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)


APPEND = text("INSERT INTO note (stream, version) VALUES ('s', 1) ON CONFLICT DO NOTHING")


def sqlstate(error: BaseException) -> str | None:
    """Get PostgreSQL's code for what SQLAlchemy has wrapped."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


@contextmanager
def racing_append(engine: Engine, isolation_level: str) -> Iterator[tuple[Connection, list[int | str | None]]]:
    """Append in one transaction, and once more in another, which must wait; the block ends the first, then the result is there."""
    PlainBase.metadata.create_all(engine)
    results: list[int | str | None] = []

    def append_too(connection: Connection) -> None:
        try:
            results.append(connection.execute(APPEND).rowcount)
        except OperationalError as error:
            results.append(sqlstate(error))

    with engine.connect() as first, engine.connect() as second, engine.connect() as observer:
        second.execution_options(isolation_level=isolation_level)
        pid = second.scalar(select(func.pg_backend_pid()))
        assert first.execute(APPEND).rowcount == 1
        thread = threading.Thread(target=append_too, args=(second,))
        thread.start()
        end = time.monotonic() + 30
        while observer.scalar(text("SELECT cardinality(pg_blocking_pids(:pid))"), {"pid": pid}) == 0:
            assert thread.is_alive(), f"it did not wait: {results}"
            assert time.monotonic() < end
            time.sleep(0.005)
        assert results == []
        yield first, results
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_a_transaction_sees_the_sessions_of_the_server_as_they_were_at_its_first_look(postgres_engine: Engine) -> None:
    in_transactions = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in%'"
    )
    with postgres_engine.connect() as connection, postgres_engine.connect() as observer:
        connection.execute(text("SELECT 1"))
        assert observer.scalar(in_transactions) == 1
        connection.rollback()
        assert observer.scalar(in_transactions) == 1
        observer.rollback()
        assert observer.scalar(in_transactions) == 0


def test_before_flush_does_not_run_on_a_clean_session(engine: Engine) -> None:
    PlainBase.metadata.create_all(engine)
    flushes: list[Session] = []
    with Session(engine) as session:
        event.listen(session, "before_flush", lambda *_: flushes.append(session))
        session.flush()
        session.commit()
        assert flushes == []
        session.add(note := Note(stream="s", version=1))
        session.commit()
        assert len(flushes) == 1
        assert note.version == 1  # loaded anew, and clean
        session.commit()
        assert len(flushes) == 1


def test_applying_an_event_makes_a_loaded_aggregate_dirty(engine: Engine) -> None:
    """Which is why it sets the mapped version: a state field alone would change nothing that a session sees."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(till := Till(id="a"))
        till.sell("1")
        session.commit()
        assert till.sold == ("1",)
        assert not session.dirty
        till.sell("2")
        assert till in session.dirty
        session.commit()
        assert till.version == 2


@pytest.mark.parametrize(("first_commits", "inserted"), [(True, 0), (False, 1)])
def test_on_conflict_do_nothing_waits_for_an_insert_in_progress(
    postgres_engine: Engine, first_commits: bool, inserted: int
) -> None:
    with racing_append(postgres_engine, "READ COMMITTED") as (first, results):
        first.commit() if first_commits else first.rollback()
    assert results == [inserted]


@pytest.mark.parametrize("isolation_level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_above_read_committed_on_conflict_do_nothing_fails_instead(postgres_engine: Engine, isolation_level: str) -> None:
    with racing_append(postgres_engine, isolation_level) as (first, results):
        first.commit()
    assert results == ["40001"]


def test_after_a_failed_statement_commit_rolls_back_and_says_nothing(postgres_engine: Engine) -> None:
    """Which is why a conflict must not be found by letting a plain INSERT fail: whoever caught the error would lose the rest."""
    PlainBase.metadata.create_all(postgres_engine)
    with postgres_engine.connect() as connection:
        connection.execute(APPEND)
        with pytest.raises(IntegrityError) as caught:
            connection.execute(text("INSERT INTO note (stream, version) VALUES ('s', 1)"))
        assert sqlstate(caught.value) == "23505"
        with pytest.raises(InternalError) as refused:
            connection.execute(select(func.count()).select_from(Note))
        assert sqlstate(refused.value) == "25P02"
        connection.commit()  # no error
        assert connection.scalar(select(func.count()).select_from(Note)) == 0


def test_after_on_conflict_do_nothing_the_transaction_goes_on(postgres_engine: Engine) -> None:
    PlainBase.metadata.create_all(postgres_engine)
    with postgres_engine.connect() as connection:
        assert connection.execute(APPEND).rowcount == 1
        assert connection.execute(APPEND).rowcount == 0
        assert connection.scalar(select(func.count()).select_from(Note)) == 1
        connection.commit()
        assert connection.scalar(select(func.count()).select_from(Note)) == 1


def test_postgresql_pushes_the_id_into_the_grouped_subquery(postgres_engine: Engine) -> None:
    """Which makes an aggregate's mapped subquery as cheap as its own index entries."""
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        for number in range(200):
            session.add(till := Till(id=f"till-{number}"))
            till.sell(*(f"{number}/{each}" for each in range(10)))
        session.commit()
    statement = select(Till).where(Till.id == "till-77")
    compiled = statement.compile(dialect=postgres_engine.dialect, compile_kwargs={"literal_binds": True})
    with postgres_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE events"))
        plan = "\n".join(connection.scalars(text(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {compiled}")))
    conditions = [line for line in plan.splitlines() if "Index Cond" in line]
    assert conditions, plan
    assert all("aggregate_id" in line and "aggregate_type" in line for line in conditions), plan
    assert "Seq Scan" not in plan
    assert "Rows Removed by Filter" not in plan


def test_positions_are_drawn_at_insert_and_visible_at_commit(postgres_engine: Engine) -> None:
    """Which is why a reader that remembers only a position would skip what commits late."""
    Base.metadata.create_all(postgres_engine)
    positions = select(EventRecord.position, EventRecord.aggregate_id).order_by(EventRecord.position)
    with Session(postgres_engine) as early, Session(postgres_engine) as late, Session(postgres_engine) as reader:
        for session, name in ((early, "early"), (late, "late")):
            session.add(till := Till(id=name))
            till.sell("1")
            session.flush()
        late.commit()
        seen = reader.execute(positions).all()
        assert [name for _, name in seen] == ["late"]
        early.commit()
        appeared = [row for row in reader.execute(positions) if row not in seen]
        assert [name for _, name in appeared] == ["early"]
        assert appeared[0].position < seen[0].position  # behind what the reader has passed


def test_a_rolled_back_insert_leaves_a_gap_in_positions(postgres_engine: Engine) -> None:
    """Which is why a gap says nothing about an event that is still to come."""
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        for name, commits in (("a", True), ("b", False), ("c", True)):
            session.add(till := Till(id=name))
            till.sell("1")
            session.flush()
            session.commit() if commits else session.rollback()
        first, second = session.scalars(select(EventRecord.position).order_by(EventRecord.position))
        assert second > first + 1


def test_the_transaction_id_of_a_row_is_that_of_the_whole_transaction(postgres_engine: Engine) -> None:
    """Savepoints have ids of their own, but pg_current_xact_id() gives the outermost, which snapshots know."""
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        session.add(till := Till(id="a"))
        till.sell("1")
        session.flush()
        with session.begin_nested():
            till.sell("2")
        session.commit()
        assert len(set(session.scalars(select(EventRecord.transaction_id)))) == 1
