"""A log that was brought from another cluster, in every way that ids can lie to each other: who follows it goes on, or nobody does.

Another cluster is another database here, and its transaction ids are moved on the way: before those of the new home, among them,
behind them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import MovedLogError, ReadModelManager, RecordedEvent, Worker, subscribe
from sa_eventsource.checkpoints import Snapshot, adopt
from sa_eventsource.consumers import chosen_consumers, followers_of
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections import take_step
from sa_eventsource.transfer import export_events, import_events
from tests.bank import AnyAccount, Deposited
from tests.databases import DatabasePool
from tests.parameters import slow_after


class Base(DeclarativeBase):
    """Base of the log that is brought."""


class Account(AnyAccount, Base):
    """What is followed."""

    __aggregate_type__ = "brought.Account"


Row: TypeAlias = dict[str, Any]
seen: list[tuple[str, str, int]] = []
NAMES = ("brought_ahead", "brought_behind", "brought_halfway", "brought_never")
FOLLOWING = NAMES[:3]


def _subscribed(name: str) -> None:
    @subscribe(name, Deposited, base=Base)
    def take(event: RecordedEvent[Deposited], session: Session) -> None:
        seen.append((name, event.aggregate_id, event.version))


for each in NAMES:
    _subscribed(each)

TABLES = tables_on(Base.metadata)
EVENTS = tuple(column.name for column in TABLES.events.columns)
POSITIONS = tuple(column.name for column in TABLES.projection_positions.columns)


def deposit(session: Session, account_id: str, times: int = 1) -> None:
    account = session.get(Account, account_id)
    if account is None:
        session.add(account := Account(id=account_id))
    for _ in range(times):
        account.apply_event(Deposited(amount=1))
    session.flush()


def deposit_and_commit(engine: Engine, account_id: str, times: int = 1) -> None:
    with Session(engine) as session:
        deposit(session, account_id, times)
        session.commit()


def run(engine: Engine, *names: str) -> int:
    return Worker(engine, Base, only=names or None).run_once()


def take_step_of(engine: Engine, name: str) -> None:
    (consumer,) = chosen_consumers(TABLES, [name])
    (follower,) = followers_of(consumer, engine.dialect)
    with Session(engine) as session:
        take_step(session, follower, 1)


def step(engine: Engine, name: str, number: int) -> None:
    for _ in range(number):
        take_step_of(engine, name)


@dataclass(frozen=True)
class Origin:
    """The log of another cluster: its rows, and what its followers have seen."""

    events: list[Row]
    positions: list[Row]
    seen: list[tuple[str, str, int]]


@pytest.fixture(scope="module")
def origin(postgres_databases: DatabasePool) -> Iterator[Origin]:
    """Its followers have come differently far, one of them while a transaction was open that ended later."""
    with postgres_databases.database() as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        seen.clear()
        deposit_and_commit(engine, "a", 2)
        deposit_and_commit(engine, "b")
        run(engine, "brought_behind")
        for account_id in "abc":
            deposit_and_commit(engine, account_id)
        step(engine, "brought_halfway", 4)
        with Session(engine) as late:
            deposit(late, "late")
            deposit_and_commit(engine, "a")
            run(engine, "brought_ahead")
            late.commit()
        deposit_and_commit(engine, "b")
        events = rows_of(engine, "events", EVENTS, "position")
        yield Origin(events, rows_of(engine, "projection_positions", POSITIONS, "projection_name"), list(seen))
        engine.dispose()


@pytest.fixture
def home(origin: Origin, postgres_databases: DatabasePool) -> Iterator[Engine]:
    seen[:] = origin.seen
    with postgres_databases.database() as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        yield engine
        engine.dispose()


def next_id(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")).scalar_one())


def give_out_ids(engine: Engine, number: int) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(number):
            connection.execute(text("SELECT pg_current_xact_id()"))


def rows_of(engine: Engine, table: str, columns: Sequence[str], order: str) -> list[Row]:
    listed = ", ".join(f"{name}::text AS {name}" for name in columns)
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT {listed} FROM {table} ORDER BY {order}")).mappings()]


def shifted(snapshot: str | None, shift: int) -> str | None:
    if snapshot is None:
        return None
    before = Snapshot.parse(snapshot)
    return str(Snapshot(before.xmin + shift, before.xmax + shift, tuple(each + shift for each in before.running)))


WHERE_IDS_LIE = {
    "before the table was made": lambda made, now, size: made - size - 1,
    "since the table was made": lambda made, now, size: made + 1,
    "around those that write it": lambda made, now, size: now - size // 2,
    "ahead": lambda made, now, size: now + 1_000_000,
}


class Move:
    """The rows of a log, with ids of another cluster."""

    def __init__(self, origin: Origin, home: Engine, where: str) -> None:
        self.home = home
        self.events = [dict(row) for row in origin.events]
        self.positions = [dict(row) for row in origin.positions]
        ids = [int(row["transaction_id"]) for row in self.events]
        made = next_id(home) - 1
        size = max(ids) - min(ids) + 1
        if where != "before the table was made":
            give_out_ids(home, size + 10)
        shift = WHERE_IDS_LIE[where](made, next_id(home), size) - min(ids)
        for row in self.events:
            row["transaction_id"] = str(int(row["transaction_id"]) + shift)
        for row in self.positions:
            row["cluster"] = "4711"
            row["snapshot_cursor"] = shifted(row["snapshot_cursor"], shift)
            row["window_end"] = shifted(row["window_end"], shift)

    @property
    def last(self) -> int:
        return int(self.events[-1]["position"])

    def bring(self, *batches: Sequence[Row]) -> None:
        """Write the events, each batch in a transaction of its own, then the checkpoints."""
        for rows in batches:
            self._write("events", EVENTS, rows)
        self._write("projection_positions", POSITIONS, self.positions)
        with self.home.begin() as connection:
            connection.execute(text("SELECT setval(pg_get_serial_sequence('events', 'position'), :last)"), {"last": self.last})

    def _write(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        with self.home.begin() as connection:
            driver: Any = connection.connection.driver_connection
            with driver.cursor().copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row([row[name] for name in columns])


def nothing(home: Engine) -> None: ...


def append(home: Engine) -> None:
    deposit_and_commit(home, "a")
    deposit_and_commit(home, "new", 2)


def append_in_savepoints(home: Engine) -> None:
    with Session(home) as session:
        with session.begin_nested():
            deposit(session, "a")
        with session.begin_nested():
            deposit(session, "new")
            with session.begin_nested():
                deposit(session, "b")
        session.commit()


def append_in_some_savepoints(home: Engine) -> None:
    append(home)
    append_in_savepoints(home)
    append(home)


def import_by_copy(home: Engine) -> None:
    with home.connect() as connection:
        header, *lines = export_events(connection, TABLES.events)
    copies = [
        {**event, "event_id": str(uuid.uuid4()), "aggregate_id": f"copy of {event['aggregate_id']}"}
        for event in map(json.loads, lines)
    ]
    with home.begin() as connection:
        import_events(connection, TABLES.events, [header, *(json.dumps(each, separators=(",", ":")) for each in copies)])


def moved(home: Engine) -> set[str]:
    return {each.name for each in ReadModelManager(home, Base).status() if each.state == "moved"}


def settle(move: Move) -> bool:
    """Let everybody follow; say whether that went by itself. What nobody can know, is said."""
    run(move.home)
    if not moved(move.home):
        return True
    before = list(seen)
    assert set(FOLLOWING) <= moved(move.home)
    assert run(move.home, *FOLLOWING) == 0
    assert seen == before
    with Session(move.home) as session:
        adopt(session, Base, last_position=move.last)
    run(move.home)
    return False


def check(home: Engine) -> None:
    """Each follower has seen each event once, and every stream in order, before and after the move."""
    with home.connect() as connection:
        log = sorted(tuple(row) for row in connection.execute(text("SELECT aggregate_id, version FROM events")))
    for name in NAMES:
        mine = [(account_id, version) for who, account_id, version in seen if who == name]
        assert sorted(mine) == log, name
        assert all(
            [v for c, v in mine if c == account_id] == sorted(v for c, v in mine if c == account_id) for account_id, _ in log
        )


def go_on(move: Move) -> None:
    check(move.home)
    append_in_some_savepoints(move.home)
    run(move.home)
    check(move.home)
    assert moved(move.home) == set()


@pytest.mark.parametrize("where", ["before the table was made", "ahead"])
@pytest.mark.parametrize("afterwards", slow_after(1, [append_in_some_savepoints, import_by_copy]))
def test_what_one_transaction_has_brought_is_followed(
    origin: Origin, home: Engine, where: str, afterwards: Callable[[Engine], None]
) -> None:
    move = Move(origin, home, where)
    move.bring(move.events)
    afterwards(home)
    assert settle(move)
    go_on(move)


def one_by_one(move: Move) -> None:
    move.bring(*([row] for row in move.events))


def in_two_loads(move: Move) -> None:
    half = len(move.events) // 2
    move.bring(move.events[:half], move.events[half:])


def the_last_alone(move: Move) -> None:
    move.bring(move.events[:-1], move.events[-1:])


def as_a_whole(move: Move) -> None:
    move.bring(move.events)


@pytest.mark.slow
@pytest.mark.parametrize("where", WHERE_IDS_LIE)
@pytest.mark.parametrize("bring", [as_a_whole, one_by_one, in_two_loads, the_last_alone])
@pytest.mark.parametrize("afterwards", [nothing, append, append_in_savepoints, append_in_some_savepoints, import_by_copy])
def test_what_is_not_certain_is_left_to_those_who_know(
    origin: Origin, home: Engine, where: str, bring: Callable[[Move], None], afterwards: Callable[[Engine], None]
) -> None:
    move = Move(origin, home, where)
    bring(move)
    afterwards(home)
    settle(move)
    go_on(move)


def rewrite(home: Engine) -> None:
    """Give all rows the same writer, as a migration may."""
    with home.begin() as connection:
        connection.execute(text("ALTER TABLE events ADD COLUMN noise double precision DEFAULT random()"))
        connection.execute(text("ALTER TABLE events DROP COLUMN noise"))


@pytest.mark.parametrize("where", ["before the table was made", "ahead"])
def test_a_log_that_was_rewritten_since_is_not_taken_for_one_that_was_brought_as_a_whole(
    origin: Origin, home: Engine, where: str
) -> None:
    move = Move(origin, home, where)
    move.bring(move.events)
    append_in_some_savepoints(home)
    rewrite(home)
    assert not settle(move)
    go_on(move)


def in_another_cluster(home: Engine) -> None:
    """Give the cluster another identifier, as far as can be seen, and let all else be as it is: as pg_upgrade does."""
    with home.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET cluster = '4711' WHERE cluster IS NOT NULL"))


@pytest.mark.parametrize("history", slow_after(2, ["plain", "rewritten", "savepoints", "moved before"]))
def test_a_log_whose_ids_still_hold_is_not_taken_for_one_that_was_brought(origin: Origin, home: Engine, history: str) -> None:
    if history == "moved before":
        move = Move(origin, home, "ahead")
        move.bring(move.events)
        assert settle(move)
    else:
        seen.clear()
        append_in_savepoints(home) if history == "savepoints" else append(home)
        run(home)
        if history == "rewritten":
            rewrite(home)
    append_in_some_savepoints(home)
    run(home)
    append(home)
    in_another_cluster(home)
    assert run(home) == 0
    assert moved(home) == set(NAMES)
    with Session(home) as session:
        adopt(session, Base, keep=True)
    run(home)
    check(home)


def test_what_is_brought_to_a_log_that_is_followed_is_not_passed_over_in_silence(origin: Origin, home: Engine) -> None:
    run(home)
    seen.clear()
    move = Move(origin, home, "ahead")
    move.positions = []
    move.bring(move.events)
    append(home)
    assert moved(home) == set(NAMES)
    assert run(home) == 0
    with Session(home) as session:
        adopt(session, Base, last_position=move.last)
    run(home)
    check(home)


def test_a_checkpoint_that_nobody_can_read_keeps_the_log_from_being_settled(origin: Origin, home: Engine) -> None:
    move = Move(origin, home, "ahead")
    next(row for row in move.positions if row["projection_name"] == "brought_behind")["window_end"] = "garbage"
    move.bring(move.events)
    assert run(home) == 0
    with Session(home) as session, pytest.raises(ValueError, match="the checkpoint of 'brought_behind' cannot be read"):
        adopt(session, Base)
    with pytest.raises(MovedLogError, match="the checkpoint of 'brought_behind' cannot be read") as caught:
        take_step_of(home, "brought_ahead")
    assert caught.value.reason is not None
    with home.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET window_end = NULL WHERE window_end = 'garbage'"))
    assert settle(move)
    go_on(move)


def test_an_event_of_a_late_commit_is_not_lost_to_who_is_in_its_first_window(home: Engine) -> None:
    """It lies before the position that the follower has come to, and its end of the window does not see it."""
    seen.clear()
    with Session(home) as late:
        deposit(late, "late")
        append(home)
        step(home, "brought_never", 2)
        late.commit()
    with Session(home) as session:
        adopt(session, Base)
    run(home)
    check(home)
