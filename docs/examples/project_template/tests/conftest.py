"""Tests have the tables that the migrations make."""

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine


@pytest.fixture(scope="session")
def migrations() -> Config:
    return Config(Path(__file__).parents[1] / "alembic.ini")


@pytest.fixture(scope="session")
def eventsource_create_tables(migrations: Config) -> Callable[[Engine], None]:
    def migrate(engine: Engine) -> None:
        migrations.attributes["engine"] = engine
        command.upgrade(migrations, "head")

    return migrate
