"""Real threads, processes and connections that write the same aggregates at once, at every isolation level."""

from __future__ import annotations

import threading
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, MetaData, create_engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from sa_eventsource import ConcurrencyError, EventRecord
from sa_eventsource.session.retry import is_conflict
from sa_eventsource.time_ordered_ids import uuid7
from tests.proofs.cutting import Child
from tests.proofs.tills import Account, Base, Till, append_all, count_up, run_task, transaction_marks

ISOLATION_LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]

# A writer is a list of transactions; each names its tills, how many events go into each, and what happens to a savepoint.
transactions = st.tuples(
    st.sets(st.integers(0, 2), min_size=1, max_size=3),
    st.integers(1, 3),
    st.sampled_from(["none", "kept", "dropped", "rolled back"]),
)
plans = st.lists(st.lists(transactions, min_size=1, max_size=5), min_size=2, max_size=4)


class Outcome:
    """What one writer was told of its transactions."""

    def __init__(self) -> None:
        self.committed: list[str] = []
        self.refused: list[str] = []
        self.unexpected: list[BaseException] = []


def write(
    engine: Engine, start: threading.Barrier, prefix: str, name: str, plan: list[tuple[set[int], int, str]], out: Outcome
) -> None:
    start.wait(timeout=30)
    for number, (tills, events, savepoint) in enumerate(plan):
        transaction = f"{prefix}{name}.{number}"
        marks = transaction_marks(transaction, [f"{prefix}{each}" for each in sorted(tills)], events)
        try:
            with Session(engine) as session:
                append_all(session, marks, "none" if savepoint == "rolled back" else savepoint)
                if savepoint == "rolled back":
                    session.flush()
                    session.rollback()
                    out.refused.append(transaction)
                else:
                    session.commit()
                    out.committed.append(transaction)
        except (ConcurrencyError, OperationalError) as error:
            if is_conflict(error):
                out.refused.append(transaction)
            else:
                out.unexpected.append(error)
        except BaseException as error:
            out.unexpected.append(error)


def check_log(engine: Engine, prefix: str, committed: set[str], refused: set[str]) -> None:
    """Everything that was acknowledged is there, whole; nothing else is; streams have no holes and follow their positions."""
    with Session(engine) as session:
        versions: dict[str, list[int]] = defaultdict(list)
        found: dict[str, list[int]] = defaultdict(list)
        mine = select(EventRecord).where(EventRecord.aggregate_id.startswith(prefix)).order_by(EventRecord.position)
        for record in session.scalars(mine):
            versions[record.aggregate_id].append(record.version)
            transaction, size, *_ = record.event_data["what"].split("/")
            found[transaction].append(int(size))
        assert set(found) == committed
        assert not set(found) & refused
        assert all(len(sizes) == sizes[0] for sizes in found.values())
        assert all(stream == list(range(1, len(stream) + 1)) for stream in versions.values())
        for till_id, stream in versions.items():
            assert len(session.get_one(Till, till_id).sold) == len(stream)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.mark.parametrize("isolation_level", ISOLATION_LEVELS)
def test_no_acknowledged_event_is_lost_and_no_other_is_there(postgres_engine: Engine, isolation_level: str) -> None:
    engine = postgres_engine.execution_options(isolation_level=isolation_level)
    totals = {"committed": 0, "refused": 0}

    @settings(
        max_examples=settings().max_examples // 2,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(plans)
    def run(plan: list[list[tuple[set[int], int, str]]]) -> None:
        prefix = f"{uuid7().hex}-"
        start = threading.Barrier(len(plan))
        outcomes = [Outcome() for _ in plan]
        threads = [
            threading.Thread(target=write, args=(engine, start, prefix, str(index), each, outcomes[index]))
            for index, each in enumerate(plan)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert [each for outcome in outcomes for each in outcome.unexpected] == []
        committed = {name for outcome in outcomes for name in outcome.committed}
        refused = {name for outcome in outcomes for name in outcome.refused}
        assert len(committed) + len(refused) == sum(map(len, plan))
        check_log(engine, prefix, committed, refused)
        totals["committed"] += len(committed)
        totals["refused"] += len(refused)

    run()
    print(f"{isolation_level}: {totals}")
    assert totals["committed"] > 0
    assert totals["refused"] > 0


@pytest.mark.parametrize("isolation_level", ISOLATION_LEVELS)
def test_of_two_writers_of_one_version_exactly_one_is_refused(postgres_engine: Engine, isolation_level: str) -> None:
    engine = postgres_engine.execution_options(isolation_level=isolation_level)
    for number in range(20):
        with Session(engine) as session:
            session.add(till := Till(id=f"race-{number}"))
            till.sell("first")
            session.commit()
        loaded = threading.Barrier(4)
        results: list[ConcurrencyError | OperationalError | None] = []

        def compete(till_id: str = f"race-{number}", together: threading.Barrier = loaded) -> None:
            with Session(engine) as session:
                till = session.get_one(Till, till_id)
                together.wait(timeout=30)
                till.sell("second")
                try:
                    session.commit()
                except (ConcurrencyError, OperationalError) as error:
                    assert is_conflict(error)
                    results.append(error)
                else:
                    results.append(None)

        threads = [threading.Thread(target=compete) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert results.count(None) == 1
        for error in results:
            if isinstance(error, ConcurrencyError):
                assert (error.aggregate_id, error.expected_version) == (f"race-{number}", 1)
                assert error.actual_version in (2, None)
        with Session(engine) as session:
            assert session.get_one(Till, f"race-{number}").version == 2


@pytest.mark.parametrize("in_savepoint", [False, True])
@pytest.mark.parametrize("isolation_level", ISOLATION_LEVELS)
def test_the_conflict_names_the_loser_and_not_what_was_flushed_before(
    postgres_engine: Engine, isolation_level: str, in_savepoint: bool
) -> None:
    """What the transaction had flushed before is gone with the rollback, and has fewer events than expected, but is no conflict."""
    engine = postgres_engine.execution_options(isolation_level=isolation_level)
    with Session(engine) as session:
        session.add(contested := Till(id="contested"))
        contested.sell("1")
        session.commit()
    with Session(engine) as session:
        contested = session.get_one(Till, "contested")
        if in_savepoint:
            session.begin_nested()
        own = [Till(id=f"own-{number}") for number in range(8)]  # a flush takes changed instances in any order
        session.add_all(own)
        for each in own:
            each.sell("1")
        session.flush()
        with Session(engine) as other:
            other.get_one(Till, "contested").sell("2")
            other.commit()
        for each in own:
            each.sell("2")
        contested.sell("too late")
        with pytest.raises((ConcurrencyError, OperationalError)) as caught:
            session.flush()
    if isinstance(caught.value, ConcurrencyError):
        assert (caught.value.aggregate_id, caught.value.expected_version) == ("contested", 1)
        assert caught.value.actual_version == 2
    else:
        assert in_savepoint  # the savepoint's snapshot hides the winner
        assert isolation_level != "READ COMMITTED"
        assert is_conflict(caught.value)


@pytest.mark.parametrize("isolation_level", ISOLATION_LEVELS)
def test_a_counter_that_is_retried_ends_at_the_sum(postgres_engine: Engine, isolation_level: str) -> None:
    engine = postgres_engine.execution_options(isolation_level=isolation_level)
    with Session(engine) as session:
        session.add(account := Account(id="counter"))
        account.deposit()
        session.commit()
    threads = [threading.Thread(target=count_up, args=(engine, "counter", 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    with Session(engine) as session:
        assert session.get_one(Account, "counter").balance == 41


def test_processes_write_the_same_tills_without_losing_anything(postgres_database_url: str) -> None:
    engine = create_engine(postgres_database_url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(account := Account(id="counter"))
        account.deposit()
        session.commit()
    processes = []
    for number, level in enumerate([*ISOLATION_LEVELS, "READ COMMITTED"]):
        task = {
            "url": postgres_database_url,
            "name": f"p{number}",
            "seed": number,
            "tills": ["a", "b", "c"],
            "events": 3,
            "count": 40,
            "isolation_level": level,
            "account": "counter",
            "times": 5,
        }
        processes.append(Child(run_task, task))
    for process in processes:
        process.until_it_ends()
    assert [process.said[-1] for process in processes] == [("done",)] * 4
    committed = {name for process in processes for (name,) in process.heard("committed")}
    refused = {name for process in processes for (name,) in process.heard("conflict")}
    assert len(committed) + len(refused) == 160
    print(f"processes: {len(committed)} committed, {len(refused)} refused")
    assert committed
    check_processes(engine, committed, refused)
    with Session(engine) as session:
        assert session.get_one(Account, "counter").balance == 21
    engine.dispose()


def check_processes(engine: Engine, committed: set[str], refused: set[str]) -> None:
    with Session(engine) as session:
        rows = session.execute(
            select(EventRecord.event_data["what"].as_string()).where(EventRecord.aggregate_type == "proofs.Till")
        ).scalars()
        found: dict[str, list[int]] = defaultdict(list)
        for mark in rows:
            transaction, size, *_ = mark.split("/")
            found[transaction].append(int(size))
    assert set(found) == committed
    assert not set(found) & refused
    assert all(len(sizes) == sizes[0] for sizes in found.values())
