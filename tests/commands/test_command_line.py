"""``sa-eventsource commands``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import Engine, update

from sa_eventsource import Commands
from tests.cli.commands import fail, succeed
from tests.commands.bakery import Base, WriteNote

BAKERY = "tests.commands.bakery:Base"
TABLE = Base.metadata.tables["commands"]


def test_prune_forgets_what_is_old(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    for _ in range(2):
        Commands(engine, Base).handle(WriteNote(text="milk"), command_id=uuid4())
    assert succeed("commands", "prune", BAKERY, "--older-than", "1", engine=engine).stderr == "forgot 0 commands\n"
    with engine.begin() as connection:
        connection.execute(update(TABLE).values(handled_at=datetime.now(UTC) - timedelta(days=2)))
    assert succeed("commands", "prune", BAKERY, "--older-than", "1", engine=engine).stderr == "forgot 2 commands\n"


def test_a_base_without_the_table_is_told_how_to_get_it(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    message = fail("commands", "prune", "tests.orders:Base", "--older-than", "1", engine=engine, status=1)
    assert 'EventSourceOptions(commands="commands")' in message
