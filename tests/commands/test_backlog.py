"""How many commands wait: in the status, in the list of problems, and in the exit status of the command line."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text, update
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import ReadModelManager, RetryPolicy, Worker, schedule
from tests.cli.commands import call, succeed
from tests.commands.ordering import Base, PlaceOrder, WriteNote

SHOP = "tests.commands.ordering:Base"
TABLE = Base.metadata.tables["commands"]
PARKED = "1 command is parked: sa-eventsource commands list --parked"


@pytest.fixture
def manager(engine: Engine) -> ReadModelManager:
    return ReadModelManager(engine, Base)


def _schedule(engine: Engine, *, late: timedelta) -> None:
    with Session(engine) as session:
        schedule(session, WriteNote(text="later"), after=timedelta(days=1), base=Base)
        schedule(session, WriteNote(text="late"), at=datetime.now(UTC) - late, base=Base)
        schedule(session, PlaceOrder(customer_id="now"), base=Base)
        session.commit()


def _park(engine: Engine) -> None:
    with Session(engine) as session:
        schedule(session, WriteNote(text="x", fails=True), base=Base)
        session.commit()
    Worker(engine, Base, only=["commands"], retries=RetryPolicy(attempts=1)).run_once()


def test_nothing_waits(manager: ReadModelManager) -> None:
    backlog = manager.commands()
    assert backlog is not None
    assert (backlog.scheduled, backlog.due, backlog.overdue, backlog.parked) == (0, 0, 0, 0)
    assert (backlog.lag_seconds, backlog.due_types, manager.problems()) == (0.0, (), [])


def test_what_waits_is_counted(manager: ReadModelManager, engine: Engine) -> None:
    _park(engine)
    _schedule(engine, late=timedelta(minutes=5))
    backlog = manager.commands()
    assert backlog is not None
    assert (backlog.scheduled, backlog.due, backlog.overdue, backlog.parked) == (3, 2, 1, 1)
    assert backlog.due_types == ("ordering.WriteNote", "ordering.PlaceOrder")
    assert 300 <= backlog.lag_seconds < 400


def test_what_is_overdue_or_parked_is_a_problem(manager: ReadModelManager, engine: Engine) -> None:
    _schedule(engine, late=timedelta(seconds=20))
    assert manager.problems() == []
    (problem,) = manager.problems(max_lag_seconds=10)
    oldest = re.match(r"2 commands are due, the oldest for ([\d.]+) s ", problem)
    assert oldest is not None
    assert 20 <= float(oldest[1]) < 300
    assert "(ordering.WriteNote, ordering.PlaceOrder)" in problem
    assert problem.startswith("2 commands are due, the oldest for 20.")
    assert "(ordering.WriteNote, ordering.PlaceOrder)" in problem
    with engine.begin() as connection:
        connection.execute(update(TABLE).values(due_at=datetime.now(UTC) - timedelta(minutes=2)))
    assert [each[:18] for each in manager.problems()] == ["3 commands are due"]
    assert manager.problems(max_lag_seconds=600) == []
    _park(engine)
    assert manager.problems() == [PARKED]


def test_a_base_without_the_table_has_none(engine: Engine) -> None:
    class OtherBase(DeclarativeBase):
        pass

    assert ReadModelManager(engine, OtherBase).commands() is None


def test_the_command_line_shows_them(manager: ReadModelManager, engine: Engine) -> None:
    _schedule(engine, late=timedelta(0))
    assert (
        "commands: 3 scheduled, 2 due, 0 overdue, 0 parked; the oldest has been due for "
        in succeed("status", SHOP, engine=engine).stdout
    )
    _park(engine)
    result = call("status", SHOP, "--json", engine=engine)
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["problems"] == [PARKED]
    assert document["commands"] == {
        "scheduled": 1,
        "due": 0,
        "overdue": 0,
        "due_types": [],
        "lag_seconds": 0.0,
        "parked": 1,
        "held": [],
    }


def test_a_base_that_has_nothing_but_commands_has_a_status(engine: Engine) -> None:
    assert "commands: 0 scheduled" in succeed("status", "tests.commands.errands:Base", engine=engine).stdout


def test_parked_ones_are_found_by_an_index(postgres_engine: Engine) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO commands (command_id, command_type, command_data, status)
                SELECT gen_random_uuid(), 'x', '{}', CASE WHEN n = 1 THEN 'parked' ELSE 'done' END
                FROM generate_series(1, 20000) AS n
            """)
        )
    with postgres_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE commands"))
        plan = connection.scalars(text("EXPLAIN SELECT count(*) FROM commands WHERE status = 'parked'")).all()
    assert any("ix_commands_status" in line for line in plan), plan
