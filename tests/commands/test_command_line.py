"""``sa-eventsource commands``."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from sa_eventsource import Commands, RetryPolicy, Worker, schedule
from tests.cli.commands import fail, start, succeed
from tests.commands.ordering import Base, Note, WriteNote
from tests.waiting import wait_until

SHOP = "tests.commands.ordering:Base"
TABLE = Base.metadata.tables["commands"]


def test_prune_forgets_what_is_old(engine: Engine) -> None:
    for _ in range(2):
        Commands(engine, Base).handle(WriteNote(text="milk"), command_id=uuid4())
    assert succeed("commands", "prune", SHOP, "--older-than", "1", engine=engine).stderr == "forgot 0 commands\n"
    with engine.begin() as connection:
        connection.execute(update(TABLE).values(handled_at=datetime.now(UTC) - timedelta(days=2)))
    assert succeed("commands", "prune", SHOP, "--older-than", "1", engine=engine).stderr == "forgot 2 commands\n"


def test_a_base_without_the_table_is_told_how_to_get_it(engine: Engine) -> None:
    message = fail("commands", "prune", "tests.orders:Base", "--older-than", "1", engine=engine, status=1)
    assert 'EventSourceOptions(commands="commands")' in message


def test_parked_commands_are_listed_retried_and_discarded(engine: Engine) -> None:
    with Session(engine) as session:
        first = schedule(session, WriteNote(text="[bold]", fails=True), base=Base, key="k")
        second = schedule(session, WriteNote(text="x", fails=True), base=Base)
        waiting = schedule(session, WriteNote(text="x"), base=Base, after=timedelta(days=1))
        session.commit()
    Worker(engine, Base, only=["commands"], retries=RetryPolicy(attempts=1)).run_once()
    lines = [json.loads(line) for line in succeed("commands", "list", SHOP, "--json", engine=engine).stdout.splitlines()]
    assert [(each["command_id"], each["status"]) for each in lines] == [
        (str(first), "parked"),
        (str(second), "parked"),
        (str(waiting), "scheduled"),
    ]
    listed = succeed("commands", "list", SHOP, "--parked", "--errors", engine=engine).stdout
    assert "ValueError: the ink is dry" in listed
    assert "Traceback" in listed
    assert str(waiting) not in listed
    assert succeed("commands", "retry", SHOP, str(first), engine=engine).stderr == f"{first} is scheduled for now\n"
    assert succeed("commands", "discard", SHOP, str(second), engine=engine).stderr == f"{second} is discarded\n"
    assert "no parked command" in fail("commands", "retry", SHOP, str(second), engine=engine, status=2)
    assert succeed("commands", "list", SHOP, "--parked", engine=engine).output == "there is no parked command\n"
    assert "no scheduled and no parked" in fail("commands", "discard", SHOP, str(uuid4()), engine=engine, status=2)


def test_run_picks_scheduled_commands_up(engine: Engine) -> None:
    with Session(engine) as session:
        schedule(session, WriteNote(text="by the worker"), base=Base)
        session.commit()
    worker = start("run", SHOP, engine=engine)
    wait_until(lambda: _notes(engine) == ["by the worker"])
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert "commands" in said


def _notes(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(Note.text)))


def test_all_that_are_parked_of_a_type_are_retried_at_once(engine: Engine) -> None:
    with Session(engine) as session:
        parked = {schedule(session, WriteNote(text="x", fails=True), base=Base) for _ in range(3)}
        session.commit()
    Worker(engine, Base, only=["commands"], retries=RetryPolicy(attempts=1)).run_once()
    assert "of type 'ordering.PlaceOrder'" in fail(
        "commands", "retry", SHOP, "--type", "ordering.PlaceOrder", engine=engine, status=2
    )
    assert "--type NAME" in fail("commands", "retry", SHOP, engine=engine, status=2)
    said = succeed("commands", "retry", SHOP, "--type", "ordering.WriteNote", engine=engine).stderr
    assert set(said.splitlines()) == {f"{each} is scheduled for now" for each in parked}
    with engine.connect() as connection:
        assert set(connection.scalars(select(TABLE.c.status))) == {"scheduled"}
