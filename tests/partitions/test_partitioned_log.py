"""What applies to a log applies to one with partitions: in the order of positions, without conflicts that nobody is told of."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, MetaData, create_engine, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sa_eventsource import (
    ConcurrencyError,
    DeclarationError,
    DuplicateAggregateError,
    EventAlreadyAppendedError,
    EventIdConflictError,
    EventReplayer,
    EventSourcedRepository,
    EventSourceOptions,
    ExpectedVersion,
    LogImportError,
    ReadModelManager,
    Worker,
    event_record,
    export_events,
    import_events,
    verify,
)
from sa_eventsource.checkpoints import adopt, is_replicated
from sa_eventsource.evolution import scan_log
from sa_eventsource.mapping import lock_table, tables_on
from sa_eventsource.transfer import ImportedLog
from tests.bank import Deposited
from tests.databases import DatabasePool
from tests.partitions.accounts import EVENTS, PARTITIONS, Account, Base, Statement, deposit, in_two_partitions, partition_of
from tests.waiting import wait_until

EVENT_ID = UUID("01952f00-0000-7000-8000-000000000040")


@pytest.fixture
def accounts(postgres_engine: Engine) -> Engine:
    """A log with four partitions."""
    return postgres_engine


def found(engine: Engine) -> list[str]:
    return [str(each) for each in verify(engine, Base).findings]


def amounts_of(engine: Engine) -> dict[str, list[int]]:
    with Session(engine) as session:
        return {each.id: list(each.amounts) for each in session.scalars(select(Statement))}


def test_streams_are_dealt_out_and_each_lies_in_one_partition(accounts: Engine) -> None:
    for number in range(40):
        deposit(accounts, f"a-{number}", 1, 2)
    with accounts.connect() as connection:
        counts = [connection.scalar(text(f"SELECT count(*) FROM {each}")) for each in PARTITIONS]
        positions = connection.scalars(select(EVENTS.c.position).order_by(EVENTS.c.position)).all()
    assert all(counts)
    assert sum(counts) == 80
    assert {partition_of(accounts, f"a-{number}") for number in range(40)} == set(PARTITIONS)
    assert len(set(positions)) == 80
    assert found(accounts) == []


@pytest.mark.parametrize("table", ["events", "the account's partition"])
@pytest.mark.parametrize("change", ["UPDATE {} SET version = 9", "DELETE FROM {}", "TRUNCATE {}"])
def test_no_event_can_be_changed_in_a_partition_either(accounts: Engine, table: str, change: str) -> None:
    deposit(accounts, "a-1", 1)
    name = "events" if table == "events" else partition_of(accounts, "a-1")
    with pytest.raises(DBAPIError, match="events are immutable"), accounts.begin() as connection:
        connection.execute(text(change.format(name)))
    with accounts.begin() as connection:
        connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
        connection.execute(text(change.format(name)))


@pytest.mark.parametrize("number", [1, 3], ids=["one event", "several"])
def test_a_stream_that_has_moved_on_is_a_conflict(accounts: Engine, number: int) -> None:
    deposit(accounts, "a-1", 1)
    with Session(accounts) as session:
        account = session.get_one(Account, "a-1")
        deposit(accounts, "a-1", 2)
        for _ in range(number):
            account.apply_event(Deposited(amount=3))
        with pytest.raises(ConcurrencyError) as caught:
            session.commit()
    assert (caught.value.expected_version, caught.value.actual_version) == (1, 2)
    with Session(accounts) as session:
        session.add_all([Account(id="a-2"), Account(id="a-2")])
        for each in list(session.new):
            each.apply_event(Deposited(amount=1))
        with pytest.raises(DuplicateAggregateError):
            session.commit()


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "in one flush"])
def test_an_id_that_an_event_of_another_stream_has_is_refused(engine: Engine, stored: bool) -> None:
    """On SQLite as well, where the log is one table."""
    accounts = [Account(id=f"a-{number}") for number in range(6)]
    for each in accounts:
        each.apply_event(Deposited(amount=1), event_id=EVENT_ID)
    if stored:
        deposit(engine, "first", 1, event_id=EVENT_ID)
        for each in accounts:
            with Session(engine) as session:
                session.add(each)
                with pytest.raises(EventIdConflictError) as caught:
                    session.commit()
            assert (caught.value.event_id, caught.value.aggregate_id) == (EVENT_ID, "first")
            assert caught.value.differences == ("aggregate_id",)
    else:
        with Session(engine) as session:
            session.add_all(accounts)
            with pytest.raises(EventIdConflictError, match="given to two events"):
                session.commit()
    assert found(engine) == []


@pytest.mark.parametrize("expected", [1, ExpectedVersion.ANY])
def test_an_append_that_is_repeated_is_recognised(engine: Engine, expected: Any) -> None:
    deposit(engine, "a-1", 1)
    ids, events = [uuid4(), uuid4()], [Deposited(amount=2), Deposited(amount=3)]
    with Session(engine) as session:
        repository = EventSourcedRepository(session, Account)
        assert repository.append("a-1", events, expected_version=expected, event_ids=ids) == 3
        with pytest.raises(EventAlreadyAppendedError) as caught:
            repository.append("a-1", events, expected_version=expected, event_ids=ids)
        assert caught.value.event_ids == tuple(ids)
        session.commit()
    deposit(engine, "a-2", 1)
    with Session(engine) as session, pytest.raises(EventIdConflictError):
        EventSourcedRepository(session, Account).append("a-2", events, expected_version=expected, event_ids=ids)


def test_of_two_appends_at_one_moment_both_have_the_id_and_verifying_finds_it(accounts: Engine) -> None:
    one, other = in_two_partitions(accounts)
    with Session(accounts) as first, Session(accounts) as second:
        for session, account_id in ((first, one), (second, other)):
            session.get_one(Account, account_id).apply_event(Deposited(amount=5), event_id=EVENT_ID)
            session.flush()
        first.commit()
        second.commit()
    (finding,) = found(accounts)
    assert f"partitions: event {EVENT_ID}: 2 events have this id" in finding


def test_writers_in_many_threads_are_followed_in_order(accounts: Engine) -> None:
    def write(writer: int) -> None:
        for number in range(25):
            while True:
                try:
                    deposit(accounts, f"a-{number % 7}", writer * 100 + number, writer)
                except ConcurrencyError:
                    continue
                break

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    with Worker(accounts, Base):
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        wait_until(lambda: sum(map(len, amounts_of(accounts).values())) == 150)
    assert found(accounts) == []
    followed = amounts_of(accounts)
    EventReplayer(accounts, Base).rebuild(Statement)
    assert amounts_of(accounts) == followed


def test_a_log_is_moved_into_partitions_by_export_and_import(accounts: Engine, postgres_databases: DatabasePool) -> None:
    plain = tables_on(MetaData(), EventSourceOptions(partitions=None)).events
    rows = [
        {"event_id": uuid4(), "aggregate_id": f"a-{number % 9}", "version": number // 9 + 1, "event_data": {"amount": number}}
        for number in range(36)
    ]
    same = {"aggregate_type": "deposits.Account", "event_type": "bank.Deposited", "occurred_at": datetime.now(UTC)}
    with postgres_databases.database() as url:
        source = create_engine(url)
        plain.metadata.create_all(source)
        with source.begin() as connection:
            connection.execute(insert(plain), [{**row, **same} for row in rows])
            lines = list(export_events(connection, plain))
        source.dispose()
    with accounts.begin() as connection:
        assert import_events(connection, EVENTS, lines, batch_size=10) == ImportedLog(36, 0)
    with accounts.begin() as connection:
        assert import_events(connection, EVENTS, lines, batch_size=10) == ImportedLog(0, 36)
    with accounts.connect() as connection:
        events = connection.execute(select(EVENTS.c.event_id).order_by(EVENTS.c.position)).scalars().all()
    assert events == [row["event_id"] for row in rows]
    assert found(accounts) == []


def test_an_import_looks_for_ids_that_other_streams_have(accounts: Engine) -> None:
    one, other = in_two_partitions(accounts)
    with accounts.connect() as connection:
        header, line = export_events(connection, EVENTS, EVENTS.c.aggregate_id == one)
    with accounts.begin() as connection, pytest.raises(LogImportError, match=r"is there already.*another aggregate_id"):
        import_events(connection, EVENTS, [header.replace('"count":1,', ""), line.replace(f'"{one}"', '"new-1"')])
    twice = [line.replace(f'"{one}"', f'"new-{number}"').replace('"position":', f'"position":{number}') for number in range(1, 3)]
    new_id = str(uuid4())
    twice = [each.replace(each.split('"event_id":"')[1][:36], new_id) for each in twice]
    with accounts.begin() as connection, pytest.raises(LogImportError, match=r"is there already.*another aggregate_id"):
        import_events(connection, EVENTS, [header.replace('"count":1,', ""), *twice])
    assert other
    assert found(accounts) == []


def test_a_stream_is_looked_for_in_its_own_partition_and_order_comes_from_the_indexes(accounts: Engine) -> None:
    for number in range(20):
        deposit(accounts, f"a-{number}", *range(20))
    own = partition_of(accounts, "a-7")
    with accounts.begin() as connection:
        connection.execute(text("ANALYZE events"))
        stream = "EXPLAIN SELECT * FROM events WHERE aggregate_type = 'deposits.Account' AND aggregate_id = 'a-7' ORDER BY version"
        of_stream = "\n".join(connection.scalars(text(stream)))
        connection.execute(text("SET LOCAL enable_sort = off"))
        in_order = "\n".join(
            connection.scalars(text("EXPLAIN SELECT * FROM events WHERE position > 50 ORDER BY position LIMIT 10"))
        )
    assert own in of_stream
    assert not any(each in of_stream for each in PARTITIONS if each != own)
    assert "Merge Append" in in_order
    assert in_order.count("position_idx") == 4


def test_locks_of_the_log_hold_for_its_partitions(accounts: Engine) -> None:
    with accounts.begin() as connection:
        connection.execute(lock_table(EVENTS, "SHARE"))
        held = connection.scalars(
            text("SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'ShareLock'")
        )
        assert set(held) == {"events", *PARTITIONS}


def test_a_log_of_another_cluster_is_adopted(accounts: Engine) -> None:
    for number in range(9):
        deposit(accounts, f"a-{number}", 1, 2)
    ReadModelManager(accounts, Base).catch_up()
    deposit(accounts, "a-1", 3)
    with accounts.begin() as connection:
        connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
        connection.execute(text("UPDATE events SET transaction_id = (transaction_id::text::bigint + 1000000)::text::xid8"))
        cursor: str = connection.execute(text("SELECT snapshot_cursor FROM projection_positions")).scalar_one()
        end = int(cursor.split(":")[1]) + 1_000_000
        connection.execute(
            text("UPDATE projection_positions SET cluster = 'other', snapshot_cursor = :moved"), {"moved": f"{end}:{end}:"}
        )
        connection.execute(text("SELECT setval('events_position_seq', 5)"))  # as where the events came by replication
    with Session(accounts) as session:
        assert adopt(session, Base) == 19
    deposit(accounts, "a-2", 4)
    assert ReadModelManager(accounts, Base).catch_up() == 2
    with Session(accounts) as session:
        assert session.get_one(Statement, "a-2").amounts == [1, 2, 4]
    assert found(accounts) == []


def test_events_that_come_to_the_partitions_by_a_subscription_are_replicated(accounts: Engine) -> None:
    tables = tables_on(Base.metadata)
    with accounts.begin() as connection:
        assert not is_replicated(connection, tables)
        connection.execute(
            text(
                "CREATE SUBSCRIPTION accounts CONNECTION '' PUBLICATION p WITH (connect = false, slot_name = NONE, enabled = false)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) "
                "SELECT oid, 'events_p2'::regclass, 'r' FROM pg_subscription WHERE subname = 'accounts'"
            )
        )
        assert is_replicated(connection, tables)
        connection.execute(text("DROP SUBSCRIPTION accounts"))


def test_the_record_of_an_event_is_got_by_its_id(engine: Engine) -> None:
    deposit(engine, "a-1", 1, event_id=EVENT_ID)
    with Session(engine) as session:
        assert session.get_one(event_record(Base), EVENT_ID).aggregate_id == "a-1"


def test_on_sqlite_the_log_is_one_table(sqlite_engine: Engine) -> None:
    assert {each for each in inspect(sqlite_engine).get_table_names() if each.startswith("events")} == {"events"}
    deposit(sqlite_engine, "a-1", 1, 2)
    deposit(sqlite_engine, "a-2", 3)
    assert ReadModelManager(sqlite_engine, Base).catch_up() == 3
    assert found(sqlite_engine) == []


@pytest.mark.parametrize("partitions", [0, 1, -4, True, "4", 2.0, 1001])
def test_what_is_no_number_of_partitions_is_refused(partitions: Any) -> None:
    with pytest.raises(DeclarationError, match="a whole number from 2 to 1000"):
        EventSourceOptions(partitions=partitions)


def test_a_name_that_postgresql_would_cut_off_is_refused() -> None:
    with pytest.raises(DeclarationError, match="shorter name"):
        EventSourceOptions(events="e" * 61, partitions=4)


def test_a_scan_reads_all_partitions_and_a_sample_some_of_each(accounts: Engine) -> None:
    for number in range(40):
        deposit(accounts, f"a-{number}", 1, 2)
    with accounts.connect() as connection:
        whole = scan_log(connection, tables_on(Base.metadata))
        part = scan_log(connection, tables_on(Base.metadata), sample=10)
    assert (whole.events, whole.read, whole.findings) == (80, 80, [])
    assert part.events == 80
    assert 8 <= part.read <= 12
