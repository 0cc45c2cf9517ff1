"""The migrations make what the classes declare."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine


def test_nothing_is_left_to_migrate(migrations: Config, eventsource_engine: Engine) -> None:
    migrations.attributes["engine"] = eventsource_engine
    command.check(migrations)
