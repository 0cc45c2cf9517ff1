"""What keeps one follower from going on is not charged to an event, and is nothing to the others; what an event causes, is."""

from __future__ import annotations

import random
import re
import string
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from sa_eventsource import EventReplayer, ReadModelError, ReadModelManager
from sa_eventsource.projections import RetryPolicy, resume
from sa_eventsource.projections import status as projection_status
from sa_eventsource.workers import Pace, Worker
from tests.committing import execute
from tests.parameters import slow_after
from tests.projections import hindrances
from tests.projections.hindrances import Base, Declared, Handled, Innocent, Numbered, Order, ids, parked, write
from tests.waiting import wait_until

TWICE = RetryPolicy(attempts=2, first_pause=0.01, factor=1)
LONG = "".join(random.Random(1).choices(string.ascii_letters, k=20_000))


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture(autouse=True)
def _unhindered() -> Iterator[None]:
    yield
    hindrances.hindering.clear()
    hindrances.called.clear()


@pytest.fixture
def notes(engine: Engine) -> Engine:
    return engine


@pytest.fixture
def pg_notes(postgres_engine: Engine) -> Engine:
    return postgres_engine


def run(engine: Engine, *only: str, times: int = 8, **options: Any) -> None:
    """Run one worker until nothing more comes of it, with pauses for the retries."""
    polling = Worker(engine, Base, only=only, retries=TWICE, pace=Pace(**options))._pollings(lambda: False)[0]
    for _ in range(times):
        with Session(engine) as session:
            polling.run(session)
        time.sleep(0.02)


def states(engine: Engine) -> dict[str, str]:
    return {each.name: each.state for each in ReadModelManager(engine, Base).status()}


def problems(engine: Engine) -> str:
    return "\n".join(ReadModelManager(engine, Base).problems())


@pytest.mark.slow_on_sqlite
@pytest.mark.parametrize("model", [Declared, Handled])
@pytest.mark.parametrize("missing", slow_after(1, ["column", "table"]))
def test_what_the_coming_migration_brings_is_no_events_fault(notes: Engine, model: type[Any], missing: str) -> None:
    table, name = model.__tablename__, model.__projection_name__
    execute(notes, "DROP INDEX IF EXISTS ix_hindered_declared_text")
    execute(notes, f"ALTER TABLE {table} DROP COLUMN text" if missing == "column" else f"DROP TABLE {table}")
    write(notes, a="x", b="y", c="z")
    run(notes, name, "innocent")
    assert parked(notes) == []
    assert ids(notes, Innocent) == ["a", "b", "c"]
    assert states(notes)[name] == "waiting"
    assert f"ReadModelError: read model {name!r} cannot take" in problems(notes)
    assert ("text" if missing == "column" else table) in problems(notes)
    if missing == "column":
        execute(notes, f"ALTER TABLE {table} ADD COLUMN text varchar")
    else:
        Base.metadata.create_all(notes)
    run(notes, name)
    assert ids(notes, model) == ["a", "b", "c"]
    assert states(notes)[name] == "running"
    assert problems(notes) == ""


def test_a_right_that_is_missing_for_one_row_is_that_events(pg_notes: Engine) -> None:
    """Row security has the SQLSTATE of a missing privilege; the statement works for other events."""
    execute(
        pg_notes,
        "ALTER TABLE hindered_declared ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "CREATE POLICY short ON hindered_declared USING (true) WITH CHECK (text <> 'no')",
        "DO $$ BEGIN CREATE ROLE hindered NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO hindered",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO hindered",
        "GRANT EXECUTE ON FUNCTION pg_control_system TO hindered",
    )
    write(pg_notes, a="x", b="y", c="no")
    engine = create_engine(pg_notes.url, connect_args={"options": "-c role=hindered"})
    run(engine, "declared")
    engine.dispose()
    assert ids(pg_notes, Declared) == ["a", "b"]
    assert parked(pg_notes) == [("declared", "c")]


@pytest.mark.parametrize("where", ["first", "midst", "last"])
def test_a_value_that_is_too_large_parks_its_stream_alone(pg_notes: Engine, where: str) -> None:
    order = {"first": ["poison", "a", "b"], "midst": ["a", "poison", "b"], "last": ["a", "b", "poison"]}[where]
    write(pg_notes, **{each: LONG if each == "poison" else "x" for each in order})
    run(pg_notes, "declared", times=12)
    assert ids(pg_notes, Declared) == ["a", "b"]
    assert parked(pg_notes) == [("declared", "poison")]
    assert "has parked 1 event" in problems(pg_notes)


def test_a_parked_stream_stays_out_of_the_statements_of_later_batches(notes: Engine) -> None:
    """Its key cannot be worked out, and PostgreSQL would try to for any row that it meets."""
    write(notes, **{"1": "x", "no": "x", "2": "x"})
    run(notes, "numbered")
    with Session(notes) as session:
        for order_id in ("no", "1", "2"):
            session.get_one(Order, order_id).note("y")
        session.commit()
    run(notes, "numbered")
    assert parked(notes) == [("numbered", "no")] * 2
    with Session(notes) as session:
        assert {row.id: row.number for row in session.query(Numbered)} == {1: 2, 2: 2}


def test_an_event_that_takes_too_long_is_parked_and_a_database_that_is_slow_for_all_is_not(pg_notes: Engine) -> None:
    engine = create_engine(pg_notes.url, connect_args={"options": "-c statement_timeout=150ms"})
    slow = {"b"}

    def sleep(event: Any, session: Session) -> None:
        if event.aggregate_id in slow:
            session.execute(text("SELECT pg_sleep(5)"))

    hindrances.hindering.append(sleep)
    write(pg_notes, a="x", b="x", c="x")
    run(engine, "handled", "innocent")
    assert (ids(pg_notes, Handled), parked(pg_notes)) == (["a", "c"], [("handled", "b")])
    slow |= {"a", "c", "d", "e"}
    write(pg_notes, d="x", e="x")
    run(engine, "handled", "innocent")
    engine.dispose()
    assert parked(pg_notes) == [("handled", "b")]
    assert ids(pg_notes, Innocent) == ["a", "b", "c", "d", "e"]
    assert "handled is waiting" in problems(pg_notes)
    assert "statement timeout" in problems(pg_notes)


@pytest.mark.parametrize("limit", slow_after(1, ["", "-c lock_timeout=50ms"]))
def test_a_locked_table_keeps_its_model_waiting_and_nobody_else(pg_notes: Engine, limit: str) -> None:
    engine = create_engine(pg_notes.url, connect_args={"options": limit})
    write(pg_notes, a="x")
    with pg_notes.connect() as holder:
        holder.execute(text("LOCK TABLE hindered_declared, hindered_handled"))
        run(engine, "declared", "handled", "innocent", times=3, lock_wait=0.05)
        assert ids(pg_notes, Innocent) == ["a"]
        assert (states(pg_notes)["declared"], states(pg_notes)["handled"]) == ("waiting", "waiting")
        assert "lock timeout" in problems(pg_notes)
    run(engine, "declared", "handled")
    engine.dispose()
    assert (ids(pg_notes, Declared), ids(pg_notes, Handled), parked(pg_notes)) == (["a"], ["a"], [])
    assert (states(pg_notes)["declared"], states(pg_notes)["handled"]) == ("running", "running")


@pytest.mark.parametrize(
    "state",
    slow_after(
        2,
        [
            "26000",
            "40001",
            "28000",
            "3D000",
            "42P05",
            "53100",
            "57P04",
            "0A000",
            "25006",
            "54000",
            "55006",
            "57014",
            "58030",
            "XX000",
            "P0001",
        ],
    ),
)
def test_whatever_a_models_table_raises_for_a_while(pg_notes: Engine, state: str) -> None:
    execute(
        pg_notes,
        "CREATE FUNCTION deny() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE EXCEPTION USING errcode = '{state}', message = 'not now'; END $$",
        "CREATE TRIGGER deny BEFORE INSERT OR UPDATE ON hindered_declared FOR EACH ROW EXECUTE FUNCTION deny()",
    )
    write(pg_notes, a="x", b="y")
    run(pg_notes, "declared", "innocent")
    assert ids(pg_notes, Innocent) == ["a", "b"]
    assert "declared is waiting: " in problems(pg_notes)
    assert "not now" in problems(pg_notes)
    execute(pg_notes, "DROP TRIGGER deny ON hindered_declared")
    run(pg_notes, "declared")
    assert (ids(pg_notes, Declared), parked(pg_notes), problems(pg_notes)) == (["a", "b"], [], "")


def test_a_lost_race_is_not_told_before_it_is_lost_again(pg_notes: Engine) -> None:
    write(pg_notes, a="x")
    races = iter([True, False])

    def lose(_event: Any, session: Session) -> None:
        if next(races):
            session.execute(text("DO $$ BEGIN RAISE EXCEPTION USING errcode = '40P01'; END $$"))

    hindrances.hindering.append(lose)
    run(pg_notes, "handled", times=1)
    assert states(pg_notes)["handled"] == "new"
    run(pg_notes, "handled", times=1)
    assert ids(pg_notes, Handled) == ["a"]


def test_a_handler_that_costs_its_connection_costs_the_others_none(pg_notes: Engine) -> None:
    write(pg_notes, a="x")
    hindrances.hindering.append(lambda _, session: session.execute(text("SELECT pg_terminate_backend(pg_backend_pid(), 1000)")))
    run(pg_notes, "handled", "innocent", times=3)
    assert ids(pg_notes, Innocent) == ["a"]
    assert "handled is waiting: " in problems(pg_notes)
    assert parked(pg_notes) == []


def test_a_server_that_is_away_is_everyones_matter(pg_notes: Engine) -> None:
    nobody = create_engine(pg_notes.url.set(port=1, host="127.0.0.1"))
    with pytest.raises(OperationalError):
        Worker(nobody, Base, only=["innocent"]).run_once()


def test_a_read_only_server_is_waited_for_on_a_new_connection(pg_notes: Engine) -> None:
    database = pg_notes.url.database
    admin = pg_notes.execution_options(isolation_level="AUTOCOMMIT")
    read_only = create_engine(pg_notes.url, connect_args={"options": "-c default_transaction_read_only=on"})
    with read_only.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    write(pg_notes, a="x")
    run(read_only, "declared", times=1)
    with read_only.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) != pid, database
    read_only.dispose()
    with admin.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM hindered_declared")) == 0
    run(pg_notes, "declared")
    assert ids(pg_notes, Declared) == ["a"]


def test_a_constraint_that_is_checked_at_the_commit_is_the_events(pg_notes: Engine) -> None:
    execute(
        pg_notes,
        "CREATE TABLE allowed (id text PRIMARY KEY)",
        "INSERT INTO allowed VALUES ('a'), ('c')",
        "ALTER TABLE hindered_handled ADD FOREIGN KEY (id) REFERENCES allowed DEFERRABLE INITIALLY DEFERRED",
    )
    write(pg_notes, a="x", b="x", c="x")
    with pytest.raises(ReadModelError, match="ForeignKeyViolation"):
        ReadModelManager(pg_notes, Base).catch_up(Handled)
    run(pg_notes, "handled", times=12)
    assert (ids(pg_notes, Handled), parked(pg_notes)) == (["a", "c"], [("handled", "b")])


def test_a_row_that_is_there_already_is_the_events_though_each_repetition_fails(notes: Engine) -> None:
    """The handler inserts: to do again what was done before fails in the same way, and proves nothing."""
    write(notes, a="x", b="x")
    run(notes, "handled")
    execute(notes, "INSERT INTO hindered_handled (id, text) VALUES ('c', 'by hand')")
    write(notes, c="x")
    run(notes, "handled")
    assert parked(notes) == [("handled", "c")]


def test_a_subscription_waits_where_its_statement_is_wrong_and_is_called_for_no_other_event(notes: Engine) -> None:
    write(notes, a="x", b="y")
    run(notes, "archive", "innocent")
    assert (set(hindrances.called), parked(notes)) == ({"a"}, [])
    assert "SubscriptionError: subscription 'archive' cannot take" in problems(notes)
    execute(notes, "CREATE TABLE archive (id varchar(5) PRIMARY KEY)")
    run(notes, "archive")
    assert problems(notes) == ""
    assert hindrances.called[-2:] == ["a", "b"]


def test_a_subscription_parks_what_its_statement_does_not_take(notes: Engine) -> None:
    execute(notes, "CREATE TABLE archive (id varchar(5) CHECK (length(id) < 5))")
    write(notes, a="x", longer="y", b="z")
    run(notes, "archive")
    assert parked(notes) == [("archive", "longer")]
    with notes.connect() as connection:
        assert sorted(connection.execute(text("SELECT id FROM archive")).scalars()) == ["a", "b"]


def test_resumed_it_tries_at_once_and_skips_nothing_it_did_not_fail_at(pg_notes: Engine) -> None:
    write(pg_notes, a="x", b="x")
    with pg_notes.connect() as holder:
        holder.execute(text("LOCK TABLE hindered_declared"))
        run(pg_notes, "declared", times=3, lock_wait=0.02)
    assert states(pg_notes)["declared"] == "waiting"
    with Session(pg_notes) as session:
        assert resume(session, Declared.__read_model_definition__, skip=True)
        assert not resume(session, Declared.__read_model_definition__)
    run(pg_notes, "declared")
    assert ids(pg_notes, Declared) == ["a", "b"]


def test_a_running_worker_goes_on_when_the_way_is_free(pg_notes: Engine) -> None:
    write(pg_notes, a="x")
    before = set(threading.enumerate())  # a publisher's stays, which other tests may have had
    with Worker(pg_notes, Base, only=["declared", "innocent"], pace=Pace(lock_wait=0.05, longest_wait=0.1)):
        with pg_notes.connect() as holder:
            holder.execute(text("LOCK TABLE hindered_declared"))
            write(pg_notes, b="x")
            wait_until(lambda: ids(pg_notes, Innocent) == ["a", "b"])
            wait_until(lambda: states(pg_notes)["declared"] == "waiting")
        wait_until(lambda: ids(pg_notes, Declared) == ["a", "b"])
        wait_until(lambda: problems(pg_notes) == "")
    assert set(threading.enumerate()) <= before


def test_nobody_waits_for_the_first_rebuild_of_a_model(pg_notes: Engine) -> None:
    """Its checkpoint is new, and not committed: to insert another one is to wait for it."""
    write(pg_notes, a="x")
    worker = Worker(pg_notes, Base, only=["declared", "innocent"], pace=Pace(lock_wait=0.05))
    taken: list[list[str]] = []

    def meanwhile(_total: int) -> None:
        worker.run_once()
        taken.append([*worker.hindered, *ids(pg_notes, Innocent), *ids(pg_notes, Declared)])

    EventReplayer(pg_notes, Base).rebuild(Declared, progress=meanwhile)
    assert taken == [["a"]]
    write(pg_notes, b="x")
    worker.run_once()
    assert (ids(pg_notes, Innocent), ids(pg_notes, Declared)) == (["a", "b"], ["a", "b"])


def test_a_checkpoint_that_somebody_holds_is_no_running_follower(pg_notes: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can note there that the follower waits."""
    monkeypatch.setattr(projection_status, "_LONG", 0.05)
    write(pg_notes, a="x")
    run(pg_notes, "declared")
    for lock in (
        "SELECT * FROM projection_positions WHERE projection_name = 'declared' FOR UPDATE",
        "LOCK projection_positions IN EXCLUSIVE MODE",
    ):
        with pg_notes.connect() as holder:
            holder.execute(text("SAVEPOINT inner_one"))
            holder.execute(text(lock))
            assert states(pg_notes)["declared"] == "running"  # it has all
            write(pg_notes, **{lock[:4]: "x"})
            run(pg_notes, "declared", times=2, lock_wait=0.02)
            assert states(pg_notes)["declared"] == "waiting"
            (problem,) = [line for line in problems(pg_notes).splitlines() if line.startswith("declared")]
            assert re.fullmatch(r"declared is waiting: process \d+ \(.*\) has held its checkpoint for \d+ s, and .*", problem)
        run(pg_notes, "declared")
        assert states(pg_notes)["declared"] == "running"


def test_a_checkpoint_that_a_prepared_transaction_holds_is_found_too(
    preparing_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection_status, "_LONG", 0.05)
    Base.metadata.create_all(preparing_engine)
    write(preparing_engine, a="x")
    run(preparing_engine, "declared")
    write(preparing_engine, b="x")
    execute(preparing_engine, "SELECT * FROM projection_positions FOR UPDATE", "PREPARE TRANSACTION 'held'")
    time.sleep(0.1)
    found = problems(preparing_engine)
    with preparing_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ROLLBACK PREPARED 'held'"))
    assert "declared is waiting: prepared transaction held has held its checkpoint for" in found
    assert "waiting" not in problems(preparing_engine)


def test_a_database_that_takes_no_writes_has_no_running_follower(pg_notes: Engine) -> None:
    write(pg_notes, a="x")
    with pg_notes.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"ALTER DATABASE {pg_notes.url.database} SET default_transaction_read_only = on"))
    pg_notes.dispose()
    run(pg_notes, "declared", times=3)
    assert states(pg_notes)["declared"] == "waiting"
    assert "declared is waiting: the database takes no writes: default_transaction_read_only is on" in problems(pg_notes)
    mine = create_engine(pg_notes.url, connect_args={"options": "-c default_transaction_read_only=off"})
    with mine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"ALTER DATABASE {pg_notes.url.database} RESET default_transaction_read_only"))
    mine.dispose()
    pg_notes.dispose()
    readers_own = create_engine(pg_notes.url, connect_args={"options": "-c default_transaction_read_only=on"})
    assert states(readers_own)["declared"] == "new"
    readers_own.dispose()


def test_what_went_wrong_is_noted_or_the_others_go_on(pg_notes: Engine) -> None:
    """The row of the one is held by somebody while the worker, which was at it, wants to write down its failure."""
    holder = pg_notes.connect()

    def hold(event: Any, session: Session) -> None:
        session.rollback()
        holder.execute(text("SELECT * FROM projection_positions WHERE projection_name = 'handled' FOR UPDATE"))
        raise RuntimeError("too bad")

    write(pg_notes, a="x")
    hindrances.hindering.append(hold)
    begun = time.monotonic()
    run(pg_notes, "handled", "innocent", times=1, lock_wait=0.05)
    assert time.monotonic() - begun < 10
    assert ids(pg_notes, Innocent) == ["a"]
    holder.close()
