"""Snapshots: when they are written, when they are used, and that nobody can tell by the state."""

from __future__ import annotations

import os
import sys
import types
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, EventSourcedRepository, applies
from sa_eventsource.aggregates import books_of, definition_of
from sa_eventsource.store import Appended, StreamAppend
from sa_eventsource.store.snapshots import write_snapshots
from tests.bank import Deposited, Opened
from tests.orders import Account
from tests.processes import finish
from tests.session.helpers import state_of

pytestmark = pytest.mark.slow_on_sqlite


def _deposit(engine: Engine, deposits: int, *, flush_each: bool = False) -> Any:
    with Session(engine) as session:
        account = Account.open()
        session.add(account)
        for _ in range(deposits):
            account.deposit(1)
            if flush_each:
                session.flush()
        session.commit()
        return account.id


def _snapshots(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT version FROM snapshots ORDER BY version")))


def _rows_read(engine: Engine, account_id: Any, **options: Any) -> tuple[int, Account]:
    """Load an account, and tell how many events were applied to it."""
    applied = []
    definition = definition_of(Account)
    original = dict(definition.handlers._found)

    def counting(function: Any) -> Any:
        def apply(instance: Any, event: Any) -> None:
            applied.append(event)
            function(instance, event)

        return apply

    definition.handlers._found.update({key: counting(function) for key, function in original.items()})
    try:
        with Session(engine) as session:
            account = session.get_one(Account, account_id, **options)
    finally:
        definition.handlers._found.update(original)
    return len(applied), account


@pytest.mark.parametrize(("deposits", "expected"), [(3, []), (4, [5]), (5, [6]), (8, [9]), (9, [10])])
def test_one_is_written_when_a_multiple_is_passed(database: Engine, deposits: int, expected: list[int]) -> None:
    _deposit(database, deposits)
    assert _snapshots(database) == expected


def test_a_later_one_replaces_the_one_before(database: Engine) -> None:
    _deposit(database, 17, flush_each=True)
    assert _snapshots(database) == [15]


def test_it_is_part_of_the_transaction(database: Engine) -> None:
    with Session(database) as session:
        account = Account.open()
        for _ in range(6):
            account.deposit(1)
        session.add(account)
        session.flush()
        assert session.scalar(text("SELECT count(*) FROM snapshots")) == 1
        session.rollback()
    assert _snapshots(database) == []


def test_a_savepoint_rolled_back_takes_its_snapshot_with_it(database: Engine) -> None:
    with Session(database) as session:
        account = Account.open()
        for _ in range(4):
            account.deposit(1)
        session.add(account)
        session.flush()
        nested = session.begin_nested()
        for _ in range(5):
            account.deposit(1)
        session.flush()
        nested.rollback()
        session.commit()
        assert account.balance == 4
    assert _snapshots(database) == [5]


@pytest.mark.parametrize(("deposits", "tail"), [(3, 4), (4, 0), (5, 0)])
def test_only_the_tail_is_read(database: Engine, deposits: int, tail: int) -> None:
    account_id = _deposit(database, deposits)
    applied, account = _rows_read(database, account_id)
    assert (applied, account.balance, account.version) == (tail, deposits, deposits + 1)


def test_the_tail_after_a_snapshot_is_read(database: Engine) -> None:
    account_id = _deposit(database, 12, flush_each=True)
    applied, account = _rows_read(database, account_id)
    assert (applied, account.balance, account.version) == (3, 12, 13)


def test_a_select_of_many_uses_the_snapshots_of_those_that_have_one(database: Engine) -> None:
    ids = {_deposit(database, number): number for number in (0, 3, 4, 7, 12)}
    with Session(database) as session:
        accounts = session.scalars(select(Account)).all()
        assert {account.id: account.balance for account in accounts} == ids
        assert {account.version - 1 for account in accounts} == set(ids.values())


def _corrupt(engine: Engine) -> None:
    """Set the state in all snapshots to what no event has said, so that use of one shows."""
    with engine.begin() as connection:
        state = '{"owner": "snapshot", "balance": 1000, "is_open": true}'
        cast = "CAST(:state AS JSONB)" if engine.dialect.name == "postgresql" else ":state"
        connection.execute(text(f"UPDATE snapshots SET state = {cast}"), {"state": state})


def test_a_snapshot_of_another_fingerprint_is_ignored(database: Engine) -> None:
    account_id = _deposit(database, 9)
    _corrupt(database)
    with Session(database) as session:
        assert session.get_one(Account, account_id).balance == 1000
    with database.begin() as connection:
        connection.execute(text("UPDATE snapshots SET state_fingerprint = 'older'"))
    with Session(database) as session:
        account = session.get_one(Account, account_id)
        assert (account.balance, account.owner, account.version) == (9, "ann", 10)
        assert session.scalars(select(Account)).one().balance == 9
        assert EventSourcedRepository(session, Account).load_at_version(account_id, 10).balance == 9


def test_an_unusable_snapshot_is_replaced_at_the_next_multiple(database: Engine) -> None:
    account_id = _deposit(database, 4)
    with database.begin() as connection:
        connection.execute(text("UPDATE snapshots SET state_fingerprint = 'older'"))
    with Session(database) as session:
        account = session.get_one(Account, account_id)
        for _ in range(5):
            account.deposit(1)
        session.commit()
    assert _rows_read(database, account_id)[0] == 0


def _class(name: str, **members: Any) -> Any:
    """Declare an account class anew, on a base of its own, as another release of the application would."""

    class OtherBase(DeclarativeBase):
        """The other release's base."""

    body = {
        "__module__": __name__,
        "__aggregate_type__": "Account",
        "__snapshot_frequency__": 5,
        "__annotations__": {"owner": str, "balance": int, "deposits": int},
        "owner": "",
        "balance": 0,
        "deposits": 0,
        "_opened": applies(Opened)(_opened),
        "_deposited": applies(Deposited)(_deposited),
        "__qualname__": name,
    }
    return types.new_class(name, (AggregateRoot, OtherBase), exec_body=lambda namespace: namespace.update(body | members))


def _opened(self: Any, event: Opened) -> None:
    self.owner = event.owner


def _deposited(self: Any, event: Deposited) -> None:
    self.balance += event.amount
    self.deposits += 1


def _deposited_otherwise(self: Any, event: Deposited) -> None:
    self.balance += event.amount
    self.deposits += 2


OTHER_RELEASES: dict[str, dict[str, Any]] = {
    "a further field": {"__annotations__": {"owner": str, "balance": int, "deposits": int, "limit": int}, "limit": 0},
    "a field less": {"__annotations__": {"owner": str, "balance": int}, "deposits": 0},
    "another type": {"__annotations__": {"owner": str, "balance": int, "deposits": Decimal}},
    "another default": {"owner": "nobody"},
    "another handler": {"_deposited": applies(Deposited)(_deposited_otherwise)},
    "another snapshot version": {"__snapshot_version__": 2},
}


@pytest.mark.parametrize("members", OTHER_RELEASES.values(), ids=OTHER_RELEASES.keys())
def test_every_change_of_shape_or_code_changes_the_fingerprint(members: dict[str, Any]) -> None:
    before = definition_of(_class("Account")).fingerprint
    assert definition_of(_class("Account", **members)).fingerprint != before


def test_the_same_class_declared_again_has_the_same_fingerprint() -> None:
    assert definition_of(_class("Account")).fingerprint == definition_of(_class("Account")).fingerprint


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    program = "from tests.orders import Account; print(Account.__aggregate_definition__.fingerprint)"
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        other = finish([sys.executable, "-c", program], env=environment)
        assert other.stdout.strip() == definition_of(Account).fingerprint


def test_another_release_reads_the_same_log_without_misreading_the_snapshot(database: Engine) -> None:
    first, second = _class("First"), _class("Second", _deposited=applies(Deposited)(_deposited_otherwise))
    account = first(id="a-1")
    with Session(database) as session:
        session.add(account)
        for _ in range(7):
            account.apply_event(Deposited(amount=1))
        session.commit()
        assert account.deposits == 7
    with Session(database) as session:
        newer = session.get_one(second, "a-1")
        assert (newer.deposits, newer.balance, newer.version) == (14, 7, 7)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25, deadline=None)
@given(amounts=st.lists(st.integers(0, 1000), max_size=23), cuts=st.sets(st.integers(0, 23)))
def test_replay_equals_snapshot_and_tail(sqlite_engine: Engine, amounts: list[int], cuts: set[int]) -> None:
    with Session(sqlite_engine) as session:
        account = Account.open()
        session.add(account)
        for number, amount in enumerate(amounts):
            if number in cuts:
                session.commit()
            account.deposit(amount)
        session.commit()
        stored = state_of(account), account.version
        session.execute(text("UPDATE snapshots SET state_fingerprint = ''"))
        session.refresh(account)
        replayed = state_of(account), account.version
        session.rollback()
    assert stored == replayed
    assert replayed[0]["balance"] == sum(amounts)


def test_an_append_without_the_aggregate_writes_no_snapshot_and_loads_right(database: Engine) -> None:
    account_id = _deposit(database, 3)
    with Session(database) as session:
        repository = EventSourcedRepository(session, Account)
        repository.append(account_id, [Deposited(amount=1)] * 4, expected_version=4)
        session.commit()
        assert repository.get(account_id).balance == 7
    assert _snapshots(database) == []


def test_loading_with_a_snapshot_is_one_statement_more_for_none(database: Engine) -> None:
    account_id = _deposit(database, 9)
    executed: list[str] = []
    event.listen(database, "before_cursor_execute", lambda *args: executed.append(args[2]))
    with Session(database) as session:
        session.get_one(Account, account_id)
    assert len([statement for statement in executed if "SELECT" in statement]) <= 2


def test_a_snapshot_does_not_go_back(database: Engine) -> None:
    account_id = _deposit(database, 9)
    older = Account.open(account_id=account_id)
    for _ in range(4):
        older.deposit(1)
    pending = books_of(older).pending
    stream = StreamAppend("Account", str(account_id), 0, pending, pending, older)
    with Session(database) as session:
        write_snapshots(Appended(session, session.connection(), definition_of(Account).tables, [stream]))
        session.commit()
    assert _snapshots(database) == [10]
    assert _rows_read(database, account_id)[0] == 0


def test_the_database_goes_through_the_tail_only(postgres: Engine) -> None:
    account_id = _deposit(postgres, 200)
    seen: list[Any] = []
    with Session(postgres) as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))  # the log is a small one
        session.execute(text("SET LOCAL enable_bitmapscan = off"))
        event.listen(session.connection(), "before_cursor_execute", lambda *given: seen.append(given[2:4]))
        session.get_one(Account, account_id)
        ((statement, parameters),) = seen
        plan = session.connection().exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars().all()
    (condition,) = [line for line in plan if "Index Cond" in line and "version" in line]
    assert "aggregate_id" in condition, "\n".join(plan)
