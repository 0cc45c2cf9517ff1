"""Many writers of different aggregates that feed the same rows of read models: no update is lost, none is counted twice."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    EventRecord,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    handles,
    load_for_update,
)
from sa_eventsource.session.retry import is_conflict
from tests.databases import WAITING
from tests.proofs.accounts import (
    STRONG_MODELS,
    Charged,
    DayBesideHandlers,
    Eventual,
    Handled,
    HandledBalance,
    HandledInvoice,
    Invoice,
    LateBalance,
    LateHandledBalance,
    LateInvoice,
    LateOwnDay,
    Strong,
    add,
    check_handled_rows,
    check_rows,
    connected,
    random_events,
    retried,
    write_in_a_process,
    write_strong,
)
from tests.proofs.cutting import Child
from tests.shop import AnyTill, Sold

ISOLATION_LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
LEVELS = ["READ COMMITTED", *(pytest.param(each, marks=pytest.mark.slow) for each in ISOLATION_LEVELS[1:])]

IS_LATE = """SELECT min(position) FILTER (WHERE transaction_id = pg_current_xact_id())
    < max(position) FILTER (WHERE transaction_id <> pg_current_xact_id()) FROM events"""


HOLD_INSERTS = [
    "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN new; END'",
    "CREATE TRIGGER hold BEFORE INSERT ON projections FOR EACH ROW EXECUTE FUNCTION hold()",
]


class Chained(DeclarativeBase):
    """Base of a model whose handler appends events."""


class Till(AnyTill, Chained):
    __aggregate_type__ = "proofs.ChainedTill"


class Chain(ReadModel, Chained):
    __tablename__ = "chain"
    number: Mapped[int] = mapped_column(primary_key=True)
    seen: Mapped[int] = mapped_column(default=0)

    @classmethod
    @handles(Sold)
    def sold(cls, event: RecordedEvent[Sold], session: Session) -> None:
        load_for_update(session, cls, event.event.number).seen += 1
        if event.event.number < 100:
            add(session, Till, [[Sold(number=event.event.number + 1)]])


def write_handled(engine: Engine, name: str, commits: int) -> list[str]:
    """Commit transactions of several flushes, with rows loaded before, and in savepoints of which some are rolled back."""
    chance, states = random.Random(name), list[str]()
    for number in range(commits):
        fate = chance.choice(["none", "kept", "dropped"])
        streams, inner = (random_events(chance, f"{name}.{number}.{part}", 6) for part in range(2))
        for each in (streams, inner):  # a row that the savepoint makes first, if there is one
            each.append([Charged(customer=f"{name}.{number}", branch=0, amount=Decimal(1), tag="")])

        def commit() -> None:
            with Session(engine) as session:
                loaded = session.scalars(select(HandledBalance)).all()
                add_with_savepoint(session, HandledInvoice, streams, inner, fate)
                session.commit()
                del loaded

        retried(commit, states)
    return states


def write_late(engine: Engine, name: str, commits: int) -> int:
    """Take positions and commit later, or not at all; return how often others had committed later positions by then."""
    chance, late = random.Random(name), 0
    for number in range(commits):
        fate = chance.choice(["none", "kept", "dropped"])
        streams, inner = (random_events(chance, f"{name}.{number}.{part}") for part in range(2))
        with Session(engine) as session:
            if chance.random() < 0.4:
                session.execute(text("INSERT INTO other DEFAULT VALUES"))  # the transaction's id is older than its positions
                time.sleep(chance.random() * 0.03)
            add_with_savepoint(session, LateInvoice, streams, inner, fate)
            time.sleep(chance.random() * 0.03)
            if chance.random() < 0.2:
                session.rollback()
            else:
                late += bool(session.scalar(text(IS_LATE)))
                session.commit()
    return late


def add_with_savepoint(session: Session, aggregate: type[AggregateRoot[Any]], outer: Any, inner: Any, fate: str) -> None:
    add(session, aggregate, outer[:1])
    session.flush()
    if fate != "none":
        savepoint = session.begin_nested()
        add(session, aggregate, inner)
        session.flush()
        savepoint.commit() if fate == "kept" else savepoint.rollback()
    add(session, aggregate, outer[1:])
    session.flush()


@pytest.mark.slow
@pytest.mark.parametrize("isolation_level", LEVELS)
def test_rows_that_many_threads_feed_are_at_every_moment_what_the_log_folds_to(
    postgres_engine: Engine, isolation_level: str
) -> None:
    Strong.metadata.create_all(postgres_engine)
    engine = postgres_engine.execution_options(isolation_level=isolation_level)
    lengths: set[int] = set()
    with ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(write_strong, engine, f"{isolation_level}{number}", 30) for number in range(5)]
        while not all(writer.done() for writer in writers):
            lengths.add(check_rows(postgres_engine, Strong, STRONG_MODELS))
        states = Counter(state for writer in writers for state in writer.result())
    total = check_rows(postgres_engine, Strong, STRONG_MODELS, least=150)
    print(f"{isolation_level}: {total} events, {len(lengths)} moments, refused: {dict(states)}")
    assert len(lengths) > 3
    if isolation_level == "READ COMMITTED":
        assert not states  # no deadlock, for one
    else:
        assert set(states) == {"40001"}


@pytest.mark.slow
def test_a_first_row_that_many_writers_make_at_once_is_made_once(postgres_database_url: str) -> None:
    def write(branch: int, customer: int) -> None:
        with Session(engine) as session:
            add(session, HandledInvoice, [[Charged(customer=f"{branch}.{customer}", branch=branch, amount=Decimal(1), tag="")]])
            session.commit()

    with connected(postgres_database_url) as engine:
        Handled.metadata.create_all(engine)
        with engine.begin() as connection:  # all wait where the database is about to look for the row, and go on together
            for statement in HOLD_INSERTS:
                connection.execute(text(statement))
        with engine.connect() as gate, ThreadPoolExecutor(8) as pool:
            for branch in range(40):
                gate.execute(text("SELECT pg_advisory_lock(1)"))
                writers = [pool.submit(write, branch, customer) for customer in range(8)]
                while gate.scalar(text(WAITING)) < 8 and not any(writer.done() for writer in writers):
                    time.sleep(0.002)
                gate.execute(text("SELECT pg_advisory_unlock(1)"))
                for writer in writers:
                    writer.result(timeout=60)
        assert check_rows(engine, Handled, [DayBesideHandlers]) == 320


@pytest.mark.slow
@pytest.mark.parametrize("isolation_level", LEVELS)
def test_handlers_that_lock_their_rows_lose_no_update(postgres_database_url: str, isolation_level: str) -> None:
    with connected(postgres_database_url, isolation_level=isolation_level) as engine:
        Handled.metadata.create_all(engine)
        with ThreadPoolExecutor(5) as pool:
            writers = [pool.submit(write_handled, engine, f"{isolation_level}{number}", 20) for number in range(5)]
            states = Counter(state for writer in writers for state in writer.result())
        print(f"{isolation_level}: {dict(states)}")
        assert set(states) <= {"40001", "40P01"}
        assert check_handled_rows(engine, Handled, HandledBalance) == check_rows(engine, Handled, [DayBesideHandlers], least=100)


def test_processes_that_feed_the_same_rows_lose_no_update(postgres_database_url: str) -> None:
    with connected(postgres_database_url) as engine:
        Strong.metadata.create_all(engine)
        processes = [
            Child(write_in_a_process, postgres_database_url, level, f"p{number}")
            for number, level in enumerate([*ISOLATION_LEVELS, "READ COMMITTED"])
        ]
        for process in processes:
            process.until_it_ends()
        assert [process.said[-1] for process in processes] == [("done",)] * 4
        states = [process.heard("refused")[0][0] for process in processes]
        assert states[0] == states[3] == []
        assert {*states[1], *states[2]} <= {"40001"}
        print(f"{check_rows(engine, Strong, STRONG_MODELS, least=120)} events, refused: {[len(each) for each in states]}")


@pytest.mark.parametrize("attempt", [0, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 2))])
def test_two_managers_count_every_event_once_while_writers_commit_late(postgres_engine: Engine, attempt: int) -> None:
    Eventual.metadata.create_all(postgres_engine)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    ended = threading.Event()

    def follow() -> Counter[str]:
        taken, manager = Counter[str](), ReadModelManager(postgres_engine, Eventual)
        while not ended.is_set():
            for model in manager.models:
                taken[model.__name__] += manager.catch_up(model, batch_size=7)
        return taken

    with ThreadPoolExecutor(8) as pool:
        followers = [pool.submit(follow) for _ in range(2)]
        writers = [pool.submit(write_late, postgres_engine, f"{seed}.{number}", 25) for number in range(6)]
        try:
            late = sum(writer.result(timeout=60) for writer in writers)
        finally:
            ended.set()
        taken = [follower.result(timeout=60) for follower in followers]
    manager = ReadModelManager(postgres_engine, Eventual)
    last = Counter({model.__name__: manager.catch_up(model) for model in manager.models})
    total = check_rows(postgres_engine, Eventual, [LateBalance, LateOwnDay], least=150)
    assert check_handled_rows(postgres_engine, Eventual, LateHandledBalance) == total
    assert taken[0] + taken[1] + last == {model.__name__: total for model in manager.models}
    assert all(each.total() > 0 for each in taken)
    with Session(postgres_engine) as session:
        xids = session.scalars(select(EventRecord.transaction_id).order_by(EventRecord.position)).all()
    older = sum(after < before for before, after in itertools.pairwise(xids))
    print(f"{total} events, {late} late commits, {older} older transactions behind younger ones, taken: {taken}, {last}")
    assert late > 10
    assert older > 10


@pytest.mark.slow
def test_what_a_handler_appends_while_it_catches_up_is_taken_later(postgres_engine: Engine) -> None:
    """Even if transactions that began after it have ended by the time that it looks what is visible."""
    Chained.metadata.create_all(postgres_engine)
    ended = threading.Event()

    def draw_ids() -> None:
        with postgres_engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            while not ended.is_set():
                connection.execute(text("SELECT pg_current_xact_id()"))

    with Session(postgres_engine) as session:
        for _ in range(5):
            add(session, Till, [[Sold(number=0)]])
        session.commit()
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(draw_ids) for _ in range(2)]
        taken = sum(ReadModelManager(postgres_engine, Chained).catch_up() for _ in range(101))
        ended.set()
        for other in others:
            other.result(timeout=60)
    with Session(postgres_engine) as session:
        assert {row.number: row.seen for row in session.scalars(select(Chain))} == dict.fromkeys(range(101), 5)
    assert taken == 505


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_who_loses_a_row_of_many_streams_is_not_told_that_a_stream_has_moved_on(postgres_engine: Engine, level: str) -> None:
    Strong.metadata.create_all(postgres_engine)
    engine = postgres_engine.execution_options(isolation_level=level)

    def charge(session: Session) -> None:
        add(session, Invoice, [[Charged(customer="c-1", branch=1, amount=Decimal(1), tag="t")]])

    with Session(engine) as session:
        charge(session)
        session.commit()
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        with Session(engine) as faster:
            charge(faster)
            faster.commit()
        charge(session)
        with pytest.raises(OperationalError) as caught:
            session.commit()
    assert is_conflict(caught.value)
