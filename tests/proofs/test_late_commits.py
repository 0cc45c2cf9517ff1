"""Transactions that take positions and ids and end in every order: each event is seen exactly once, every stream in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session

from sa_eventsource import fold
from sa_eventsource.checkpoints.new_events import NewEvents
from sa_eventsource.consumers.shards import Follower
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections.steps import take_step
from sa_eventsource.store import recorded_events, select_events
from sa_eventsource.time_ordered_ids import uuid7
from sa_eventsource.workers import Worker
from tests.databases import DatabasePool, EmbeddedServer
from tests.followers import followers_on
from tests.proofs.accounts import rows_of
from tests.proofs.schedules import (
    SUBSCRIPTIONS,
    Account,
    Append,
    Base,
    Begin,
    Branch,
    End,
    EndPrepared,
    Handled,
    Operation,
    Read,
    Schedule,
    Stranger,
    Trail,
    Work,
    schedule,
    taken,
)
from tests.statement_log import record_executions

connections = st.integers(0, 4)
operations = st.lists(
    st.one_of(
        st.builds(Begin, connections, st.booleans()),
        st.builds(
            Append,
            connections,
            st.integers(0, 3),
            st.integers(1, 3),
            st.sampled_from(["none", "none", "released", "rolled back"]),
            st.booleans(),
        ),
        st.builds(Append, connections, st.integers(0, 3)),
        st.builds(End, connections, st.sampled_from(["commit", "commit", "rollback", "prepare"])),
        st.builds(EndPrepared, st.booleans()),
        st.builds(Stranger, st.booleans()),
        st.builds(Read, st.integers(0, 6), st.integers(1, 3)),
        st.builds(Work),
    ),
    min_size=10,
    max_size=60,
)

READ_ALL = [Read(number, 1) for number in range(7)]

# A takes its id, B commits version 1, A appends version 2: whoever goes by transaction ids takes version 2 first.
REVERSED = [Begin(0, early=True), Begin(1, early=False), Append(1, 0), End(1), Append(0, 0), End(0), *READ_ALL, *READ_ALL]

# A draws a position, B draws the next one, commits and is read: whoever goes by positions never takes A's.
LATE = [Begin(0, early=False), Append(0, 0), Begin(1, early=False), Append(1, 1), End(1), *READ_ALL, End(0), *READ_ALL]

# The same with a window worked off in parts while the late one commits, and strangers beside it.
IN_PARTS = [
    *(Stranger(elsewhere) for elsewhere in (False, True)),
    *(each for number in (0, 1) for each in (Begin(number, early=True), Append(number, number, 3, "released"))),
    End(0),
    *READ_ALL,
    Append(1, 2, 2, "rolled back"),
    End(1, "prepare"),
    *READ_ALL,
    EndPrepared(commit=True),
    *READ_ALL,
]


def check(running: Schedule) -> None:
    """Each follower has taken what was committed, and nothing else, and every stream in order."""
    events, prefix = tables_on(Base.metadata).events, running.prefix
    with Session(running.engine) as session:
        rows = session.execute(select_events(events).where(events.c.aggregate_id.startswith(prefix)).order_by(events.c.position))
        log = recorded_events(session.connection(), events, rows.all())
        assert {each.event.note for each in log} == running.committed
        streams: dict[str, list[str]] = defaultdict(list)
        for each in log:
            streams[each.aggregate_id].append(each.event.note)
            assert each.version == len(streams[each.aggregate_id])
        for name in SUBSCRIPTIONS:
            found = session.execute(
                select(taken).where(taken.c.subscription == name, taken.c.stream.startswith(prefix)).order_by(taken.c.number)
            )
            seen: dict[str, list[str]] = defaultdict(list)
            for row in found:
                seen[row.stream].append(row.note)
                assert row.version == len(seen[row.stream]), f"{name} took {row.note} out of order"
            assert seen == streams, name
        for model in (Trail, Branch):
            assert {key: row for key, row in rows_of(session, model).items() if key.startswith(prefix)} == fold(model, log)
        handled = session.scalars(select(Handled).where(Handled.id.startswith(prefix)))
        assert {row.id: row.notes.split() for row in handled} == streams
        for stream, notes in streams.items():
            assert session.get_one(Account, stream).balance == len(notes)


def fuzz(engine: Engine, elsewhere: Engine) -> dict[str, int]:
    """Carry out schedules; return how often each kind of operation was done."""
    done: dict[str, int] = defaultdict(int)

    @settings(max_examples=settings().max_examples, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(operations)
    @example(REVERSED)
    @example(LATE)
    @example(IN_PARTS)
    def run(plan: list[Operation]) -> None:
        with schedule(engine, elsewhere) as running:
            running.carry_out(plan)
            running.finish()
            # Strangers may still be there: nobody waits for them.
            assert Worker(engine, Base).run_once() >= 0
            assert Worker(engine, Base).run_once() == 0
            check(running)
        for name, number in running.done.items():
            done[name] += number

    run()
    return done


@contextmanager
def prepared(url: str, other_url: str) -> Iterator[tuple[Engine, Engine]]:
    """Make the tables; give engines for both databases."""
    engine, elsewhere = create_engine(url, pool_size=20), create_engine(other_url)
    try:
        Base.metadata.create_all(engine)
        yield engine, elsewhere
    finally:
        engine.dispose()
        elsewhere.dispose()


def test_each_event_is_seen_once_and_in_order_whatever_commits_when(postgres_database_url: str, postgres_url: str) -> None:
    with prepared(postgres_database_url, postgres_url) as (engine, elsewhere):
        print(fuzz(engine, elsewhere))


@pytest.mark.slow
def test_so_it_is_with_prepared_transactions(preparing_server: EmbeddedServer) -> None:
    pool = DatabasePool(preparing_server.url)
    with pool.database() as url, prepared(url, preparing_server.url) as (engine, elsewhere):
        done = fuzz(engine, elsewhere)
    pool.close()
    assert done["prepared"]


FILL = """
INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at)
SELECT gen_random_uuid(), 'schedules.Account', :name || number, 1, 'bank.Deposited', '{"amount": 1}', now()
FROM generate_series(1, 500) number
"""


def rows_read(plan: dict[str, Any]) -> int:
    """How many rows of the log, or entries of its indexes, a plan went through."""
    below = sum(map(rows_read, plan.get("Plans", ())))
    if plan.get("Relation Name") != "events" and not plan.get("Index Name", "").startswith(("events", "ix_events")):
        return below
    dropped = sum(plan.get(f"Rows Removed by {reason}", 0) for reason in ("Filter", "Index Recheck"))
    return below + int((plan["Actual Rows"] + dropped) * plan["Actual Loops"])


def declared(engine: Engine) -> list[Follower]:
    """Those that take many events fast."""
    return [each for each in followers_on(engine, Base) if not each.consumer.handlers]


def read_by_a_poll(engine: Engine, new_events: NewEvents) -> int:
    """Commit one event, ask for its type, let followers look, and count the rows that they read."""
    with Session(engine) as session:
        session.add(account := Account(id=f"poll-{uuid7()}"))
        account.deposit()
        session.commit()
    with Session(engine) as session, record_executions(engine) as executed:
        assert new_events.types(session) == {"bank.Deposited"}
        assert sum(take_step(session, each, 100).events for each in declared(engine)) == 2
    statements = [each for each in executed if "FROM events" in each[0]]
    assert len(statements) > 2
    total = 0
    with engine.connect() as connection:
        for statement, parameters in statements:
            cursor: Any = connection.connection.cursor()
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            total += rows_read(cursor.fetchone()[0][0]["Plan"])
            cursor.close()
        connection.connection.rollback()
    return total


def test_a_transaction_that_stays_open_does_not_make_each_poll_read_all_since_it_began(
    postgres_database_url: str, postgres_url: str
) -> None:
    with prepared(postgres_database_url, postgres_url) as (engine, elsewhere), schedule(engine, elsewhere) as running:
        running.carry_out([Stranger(elsewhere=False), Stranger(elsewhere=True)])
        new_events, read = NewEvents(tables_on(Base.metadata), {}), []
        for number in range(16):
            with engine.begin() as connection:
                connection.execute(text(FILL), {"name": f"{number}-"})
            if number in (7, 15):
                with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    connection.execute(text("ANALYZE events"))
                with Session(engine) as session:
                    new_events.types(session)
                    for each in declared(engine):
                        while take_step(session, each, 10_000).outcome == "taken":
                            pass
                read.append(read_by_a_poll(engine, new_events))
        print(read)
        # There are 4,000 events then, and 8,000.
        assert max(read) < 200
