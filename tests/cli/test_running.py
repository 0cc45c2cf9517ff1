"""Running, watching and mending what follows a log, from the command line."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from datetime import datetime
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import ReadModel, ReadModelManager, RetryPolicy, Worker, map_from_event
from sa_eventsource.cli.status_table import status_view
from sa_eventsource.mapping import tables_of_base
from sa_eventsource.read_models import count
from tests.bank import AnyAccount, Deposited
from tests.cli.commands import call, fail, start, succeed
from tests.cli.keyed_models import Base as Keyed
from tests.cli.keyed_models import Till
from tests.databases import number_waiting
from tests.parameters import slow_after
from tests.projections import bank
from tests.projections import test_places_in_the_log as places
from tests.projections.bank import Account, Balance, Base, Noted, deposit, totals
from tests.shop import Sold
from tests.waiting import wait_until


class Wide(DeclarativeBase):
    """Base of models with names of every length."""


class WideAccount(AnyAccount, Wide):
    """What it happens to."""

    __aggregate_type__ = "wide.Account"


WIDE = ("short", "orders_by_customer", "monthly_revenue_per_country", "a_name_" * 20)
for _number, _name in enumerate(WIDE):
    type(
        f"Wide{_number}",
        (ReadModel, Wide),
        {
            "__module__": __name__,
            "__projection_name__": _name,
            "__annotations__": {"id": Mapped[str], "n": Mapped[int]},
            "n": map_from_event(Deposited, reduce=count()),
        },
    )

BANK = "tests.projections.bank:Base"
MODELS = ["balance", "branch_total", "declared_parking", "parking", "stopping"]


@pytest.fixture
def banked(engine: Engine) -> Iterator[Engine]:
    Base.metadata.create_all(engine)
    bank._Refusing.mended = False
    yield engine
    bank._Refusing.mended = False


def fail_at_once(engine: Engine) -> None:
    """Let both models that refuse a negative amount come to one."""
    deposit(engine, "a", 1)
    deposit(engine, "b", -5, 3)
    Worker(engine, Base, retries=RetryPolicy(attempts=1, first_pause=0)).run_once()


def statuses(engine: Engine, *, exit_code: int = 0) -> dict[str, dict[str, Any]]:
    result = call("status", BANK, "--json", engine=engine)
    assert result.exit_code == exit_code, result.output
    return {each["name"]: each for each in json.loads(result.stdout)["consumers"]}


def test_once_takes_what_is_there(banked: Engine) -> None:
    deposit(banked, "a", 1, 2)
    assert "took 2 events" in succeed("run", BANK, "--once", "--only", "balance", engine=banked).stderr
    assert totals(banked, Balance) == {"a": 3}
    assert "took 0 events" in succeed("run", BANK, "--once", "--only", "balance", engine=banked).stderr


def test_once_says_by_its_exit_status_who_could_not_go_on(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    deposit(postgres_engine, "a", 1)
    run_once = ("run", BANK, "--once", "--only", "balance", "--only", "branch_total")
    with postgres_engine.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET cluster = '4711' WHERE projection_name = 'balance'"))
        connection.execute(
            text("INSERT INTO projection_positions (projection_name, snapshot_cursor, cluster) VALUES ('balance', '9:9:', '4711')")
        )
    moved = call(*run_once, engine=postgres_engine)
    assert (moved.exit_code, "took 1 event" in moved.stderr) == (1, True)
    assert "balance does not go on: it does not follow: the log was written in another database cluster" in moved.stderr
    with postgres_engine.begin() as connection:
        connection.execute(text("DELETE FROM projection_positions WHERE projection_name = 'balance'"))
    deposit(postgres_engine, "a", 1)
    with postgres_engine.connect() as holder:
        holder.execute(text("LOCK TABLE projections"))
        waiting = call(*run_once, engine=postgres_engine)
    assert waiting.exit_code == 1
    assert "balance does not go on: it waits: LockNotAvailable" in waiting.stderr
    assert "took " in succeed(*run_once, engine=postgres_engine).stderr


def test_once_says_so_of_one_that_has_stopped_and_not_of_one_that_tries_again(banked: Engine) -> None:
    deposit(banked, "b", -5)
    command = ("run", BANK, "--once", "--only", "stopping")
    succeed(*command, engine=banked)
    stopped = call(*command, "--attempts", "1", engine=banked)
    with banked.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET retry_at = NULL"))
    stopped = call(*command, "--attempts", "1", engine=banked)
    assert stopped.exit_code == 1
    assert "stopping does not go on: it has stopped at an event that it cannot take" in stopped.stderr


@pytest.mark.parametrize("number", slow_after(1, [signal.SIGTERM, signal.SIGINT]))
def test_it_follows_until_a_signal_stops_it(postgres_engine: Engine, number: signal.Signals) -> None:
    Base.metadata.create_all(postgres_engine)
    process = start("run", BANK, "--only", "balance", engine=postgres_engine)
    deposit(postgres_engine, "a", 1)
    wait_until(lambda: totals(postgres_engine, Balance) == {"a": 1})
    deposit(postgres_engine, "a", 2)
    wait_until(lambda: totals(postgres_engine, Balance) == {"a": 3})
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert f"{number.name}: stopping" in errors
    assert "took 2 events" in errors
    assert re.search(r"^[\d-]+ [\d:,]+ INFO sa_eventsource\S*: following the log for balance$", errors, re.MULTILINE)


def test_a_killed_workers_share_is_taken_over(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    deposit(postgres_engine, "a", 1)
    Worker(postgres_engine, Base).run_once()
    with postgres_engine.connect() as gate:
        gate.execute(text("SELECT * FROM projections WHERE id = 'a' FOR UPDATE"))
        deposit(postgres_engine, "a", 2)
        process = start("run", BANK, "--only", "balance", engine=postgres_engine)
        wait_until(lambda: number_waiting(postgres_engine))
        process.kill()
        process.communicate(timeout=60)
        gate.rollback()
    with Worker(postgres_engine, Base, only=["balance"]):
        wait_until(lambda: totals(postgres_engine, Balance) == {"a": 3})


def test_an_unknown_name_is_refused(banked: Engine) -> None:
    assert "no eventual read model and no subscription has the name 'x'" in fail(
        "run", BANK, "--once", "--only", "x", engine=banked, status=2
    )


def test_the_status_tells_how_far_each_has_come(banked: Engine) -> None:
    deposit(banked, "a", 1, 2)
    before = statuses(banked)
    assert sorted(before) == MODELS
    assert {each["state"] for each in before.values()} == {"new"}
    assert {each["lag_events"] for each in before.values()} == {2}
    Worker(banked, Base).run_once()
    after = statuses(banked)
    assert {(each["state"], each["lag_events"], each["lag_seconds"]) for each in after.values()} == {("running", 0, 0.0)}
    assert {each["position"] for name, each in after.items() if name != "branch_total"} == {2}
    table = succeed("status", BANK, engine=banked).stdout
    assert "balance" in table
    assert "running" in table


def test_the_status_says_what_is_wrong(banked: Engine) -> None:
    fail_at_once(banked)
    found = statuses(banked, exit_code=1)
    assert (found["stopping"]["state"], found["stopping"]["lag_events"]) == ("stopped", 2)
    assert "ValueError: negative: -5" in found["stopping"]["error"]
    assert (found["parking"]["state"], found["parking"]["parked_events"]) == ("running", 2)
    document = json.loads(call("status", BANK, "--json", engine=banked).stdout)
    assert [each.split()[0] for each in document["problems"]] == ["parking", "stopping"]
    shown = call("status", BANK, engine=banked)
    assert shown.exit_code == 1
    assert "parking has parked 2 events" in shown.stdout


def test_a_lag_above_the_allowed_is_a_problem(banked: Engine) -> None:
    deposit(banked, "a", 1)
    assert call("status", BANK, engine=banked).exit_code == 0
    assert call("status", BANK, "--max-lag", "1000", engine=banked).exit_code == 0
    result = call("status", BANK, "--max-lag", "0", engine=banked)
    assert result.exit_code == 1
    assert re.search(r"balance is \d+\.\d s behind \(1 event\)", result.stdout)


def test_the_status_names_the_oldest_transaction(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as open_one:
        open_one.add(account := Account(id="a"))
        account.apply_event(Noted(note="x"))
        open_one.flush()
        document = json.loads(succeed("status", BANK, "--json", engine=postgres_engine).stdout)
        own = open_one.scalar(text("SELECT pg_backend_pid()"))
        assert document["oldest_transaction"]["process_id"] == own
        assert f"process {own}" in succeed("status", BANK, engine=postgres_engine).stdout


class Bare(DeclarativeBase):
    """A base that nobody has declared anything on, as where the module of the base alone is named."""


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["status", "--watch", "1"], ["run"], ["run", "--once"]])
def test_a_base_without_models_is_refused(sqlite_engine: Engine, command: list[str]) -> None:
    tables_of_base("test", Bare)
    Bare.metadata.create_all(sqlite_engine)
    message = fail(command[0], "tests.cli.test_running:Bare", *command[1:], engine=sqlite_engine, status=2)
    assert "no subscription" in message
    assert "name a module that imports all that declare them" in message


def test_what_is_watched_is_a_table(banked: Engine) -> None:
    for ignored in (["--json"], ["--max-lag", "1"]):
        message = fail("status", BANK, "--watch", "1", *ignored, engine=banked, status=2)
        assert message.startswith("--watch shows a table until Ctrl-C")
        assert ignored[0] in message


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["run", "--once", "--listen"], "--once takes the events that are there, and ends; leave --listen"),
        (["run", "--once", "--listen-url", "postgresql://x"], "--once takes the events that are there, and ends; leave --listen"),
        (["verify", "--all", "--sample", "5"], "--all compares all rows, and --sample and --seed choose some"),
        (["verify", "--all", "--seed", "5"], "--all compares all rows, and --sample and --seed choose some"),
    ],
)
def test_options_of_which_one_would_be_ignored_are_refused(banked: Engine, command: list[str], message: str) -> None:
    name, *options = command
    assert fail(name, BANK, *options, engine=banked, status=2).startswith(message)


@pytest.mark.parametrize("columns", [200, 80, 40, 12])
def test_names_are_whole_however_narrow_the_terminal(sqlite_engine: Engine, columns: int) -> None:
    Wide.metadata.create_all(sqlite_engine)
    console = Console(width=columns, force_terminal=True, color_system=None, file=StringIO())
    console.print(status_view(console, ReadModelManager(sqlite_engine, Wide).status(), None, None, {}))
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns
    for name in WIDE:
        # In one piece where it fits a line, and else in pieces that fill their lines.
        assert name in (shown if len(name) <= columns else shown.replace("\n", ""))
    states = [line for line in lines if "new" in line]
    assert len(states) == len(WIDE)


def test_what_says_nothing_takes_no_room(banked: Engine) -> None:
    shown = succeed("status", BANK, engine=banked).stdout
    assert "version" not in shown
    assert "parked" not in shown
    fail_at_once(banked)
    assert "parked" in call("status", BANK, engine=banked).stdout


def test_a_model_is_rebuilt(banked: Engine) -> None:
    deposit(banked, "a", 1, 2)
    deposit(banked, "b", 4)
    Worker(banked, Base).run_once()
    with banked.begin() as connection:
        connection.execute(text("DELETE FROM projections"))
    assert "rebuilt 1 row of balance" in succeed("rebuild", BANK, "balance", "--key", "b", engine=banked).stderr
    assert totals(banked, Balance) == {"b": 4}
    assert "rebuilt 1 row" in succeed("rebuild", BANK, "balance", "--positions", "1", "1", engine=banked).stderr
    assert totals(banked, Balance) == {"a": 3, "b": 4}
    both = fail("rebuild", BANK, "balance", "--key", "a", "--positions", "1", "1", engine=banked, status=2)
    assert both.startswith("--key and --positions exclude each other")
    assert "rebuilt balance from 3 events" in succeed("rebuild", BANK, "balance", engine=banked).stderr
    assert totals(banked, Balance) == {"a": 3, "b": 4}
    assert "there is no read model 'x'; there are: balance," in fail("rebuild", BANK, "x", engine=banked, status=2)


def test_a_key_that_no_row_and_no_event_has_is_reported_after_the_rows_that_are_rebuilt(banked: Engine) -> None:
    deposit(banked, "a", 1)
    Worker(banked, Base).run_once()
    none = "balance has no row of key 'nope', and no event that it has taken makes one"
    assert fail("rebuild", BANK, "balance", "--key", "nope", engine=banked, status=2) == none
    result = call("rebuild", BANK, "balance", "--key", "a", "--key", "nope", engine=banked)
    assert (result.exit_code, result.stderr) == (2, f"rebuilt 1 row of balance\nerror: {none}\n")
    with banked.begin() as connection:
        connection.execute(text("UPDATE projections SET id = 'stray' WHERE id = 'a' AND projection_name = 'balance'"))
    assert "rebuilt 0 rows" in succeed("rebuild", BANK, "balance", "--key", "stray", engine=banked).stderr  # it is removed
    assert totals(banked, Balance) == {}
    reverse = fail("rebuild", BANK, "balance", "--positions", "5", "2", engine=banked, status=2)
    assert reverse == "rebuild_between(positions=...): the first position, 5, comes after the last, 2"


@pytest.mark.parametrize(
    ("model", "right", "wrong", "reason"),
    [
        ("by_id", str(UUID(int=1)), "x", "id in a key of ById is of type UUID, which 'x' cannot be read as"),
        ("by_number", "-7", "x", "number in a key of ByNumber is of type int, not 'x'"),
        ("by_both", None, "x", "--key is one value, and a key of by_both has several: number, what. Name the events"),
    ],
)
def test_a_row_is_named_by_its_key_whatever_its_type(
    sqlite_engine: Engine, model: str, right: str | None, wrong: str, reason: str
) -> None:
    command = ("rebuild", "tests.cli.keyed_models:Base", model, "--key")
    Keyed.metadata.create_all(sqlite_engine)
    with Session(sqlite_engine) as session:
        session.add(till := Till(id=UUID(int=1)))
        till.apply_event(Sold(what="x", number=-7))
        session.commit()
    assert reason in fail(*command, wrong, engine=sqlite_engine, status=2)
    if right is not None:
        Worker(sqlite_engine, Keyed).run_once()
        assert f"rebuilt 1 row of {model}" in succeed(*command, right, engine=sqlite_engine).stderr


def test_a_former_version_is_retired(banked: Engine) -> None:
    deposit(banked, "a", 1)
    Worker(banked, Base).run_once()
    with banked.begin() as connection:
        connection.execute(text("UPDATE projections SET projection_name = 'old' WHERE projection_name = 'balance'"))
    assert (
        "retired old version 1; 1 row of it in the shared table is deleted" in succeed("retire", BANK, "old", engine=banked).stderr
    )
    assert "is what the code declares" in fail("retire", BANK, "balance", engine=banked, status=1)


def test_a_subscription_is_sent_back(sqlite_engine: Engine) -> None:
    places.Base.metadata.create_all(sqlite_engine)
    places.deposit(sqlite_engine, 1, 2, 3)
    assert places.run(sqlite_engine) == [1, 2, 3]
    command = ("rewind", "tests.projections.test_places_in_the_log:Base", "places.collector", "--to")
    for place, expected in (("1", [2, 3]), ("beginning", [1, 2, 3]), ("2026-01-01T00:00:00Z", [1, 2, 3])):
        result = succeed(*command, place, "--yes", engine=sqlite_engine)
        number = len(expected)
        assert (
            f"places.collector went back: it takes {number} events again, and has {number} events to take in total" in result.stderr
        )
        assert places.run(sqlite_engine) == expected
    places.deposit(sqlite_engine, 4)
    for place in ("3", "4", "99", "2999-01-01T00:00:00Z"):
        result = succeed(*command, place, "--yes", engine=sqlite_engine)
        assert f"places.collector stays where it is: it has not come further than {place}, and has 1 event to take" in result.stderr
    assert places.run(sqlite_engine) == [4]
    refused = call(*command, "1", engine=sqlite_engine, stdin="n\n")
    assert (refused.exit_code, places.run(sqlite_engine)) == (1, [])
    assert "will happen again, from 1 on" in refused.stderr
    assert "the highest possible is" in fail(*command, str(2**63), "--yes", engine=sqlite_engine, status=2)
    refused_place = fail(*command, "begining", "--yes", engine=sqlite_engine, status=2)
    assert "'begining' is not a time in ISO 8601, nor is it a position or the word beginning; write beginning, a" in refused_place
    for name in ("x", "places.stamps"):
        for yes in ([], ["--yes"]):  # there is nothing to confirm
            assert "There are: places.collector" in fail(
                command[0], command[1], name, "--to", "1", *yes, engine=sqlite_engine, status=2
            )
    assert "nothing is kept under the name 'x'" in fail("retire", command[1], "x", engine=sqlite_engine, status=2)


def test_what_was_put_aside_is_listed_retried_and_dropped(banked: Engine) -> None:
    fail_at_once(banked)
    listed = [json.loads(line) for line in succeed("parked", "list", BANK, "--json", engine=banked).stdout.splitlines()]
    assert [(each["name"], each["aggregate_id"], each["events"]) for each in listed] == [("parking", "b", 2)]
    assert "negative: -5" in succeed("parked", "list", BANK, "--errors", engine=banked).stdout
    refused = call("parked", "retry", BANK, "parking", engine=banked)
    assert refused.exit_code == 1
    assert "bank.Account b: read model 'parking' cannot take" in refused.stderr
    bank._Refusing.mended = True
    assert "bank.Account b: took 2 events" in succeed("parked", "retry", BANK, "parking", "--id", "b", engine=banked).stderr
    assert totals(banked, bank.Parking) == {"a": 1, "b": -2}
    assert "parking has parked nothing" in fail("parked", "retry", BANK, "parking", engine=banked, status=2)
    bank._Refusing.mended = False
    deposit(banked, "c", -1)
    Worker(banked, Base, only=["parking"], retries=RetryPolicy(attempts=1)).run_once()
    assert "parking has parked nothing of 'b'" in fail("parked", "drop", BANK, "parking", "--id", "b", engine=banked, status=2)
    assert "bank.Account c: dropped 1 event" in succeed("parked", "drop", BANK, "parking", engine=banked).stderr
    assert succeed("parked", "list", BANK, "--json", engine=banked).output == ""
    assert succeed("parked", "list", BANK, engine=banked).output == "there is no parked event\n"
    assert "so nothing can be parked; name a module that imports all" in fail(
        "parked", "list", "tests.orders:Base", engine=banked, status=2
    )
    assert "there is no eventual read model and no subscription 'x'" in fail("parked", "drop", BANK, "x", engine=banked, status=2)


def test_what_has_stopped_is_resumed(banked: Engine) -> None:
    fail_at_once(banked)
    assert "stopping goes on" in succeed("resume", BANK, "stopping", "--skip", engine=banked).stderr
    assert "stopping had not stopped" in succeed("resume", BANK, "stopping", engine=banked).stderr
    succeed("run", BANK, "--once", "--only", "stopping", engine=banked)
    assert totals(banked, bank.Stopping) == {"a": 1, "b": 3}


def test_the_status_is_watched_until_it_is_interrupted(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    process = start("status", BANK, "--watch", "0.1", engine=postgres_engine)
    # By the command, and nobody else: others have connections to the database, too, such as autovacuum.
    asked = text("SELECT max(query_start) FROM pg_stat_activity WHERE datname = current_database() AND application_name = :name")
    command = {"name": "sa-eventsource"}
    seen: set[datetime] = set()

    def has_asked_again() -> bool:
        if (now := watch.scalar(asked, command)) is not None:
            seen.add(now)
        return len(seen) > 5

    with postgres_engine.execution_options(isolation_level="AUTOCOMMIT").connect() as watch:
        wait_until(has_asked_again)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 130), errors
    assert "Traceback" not in errors
    assert output is not None
