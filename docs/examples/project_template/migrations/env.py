"""Runs the migrations: on the connection it is given, or on the database of the settings."""

import sa_eventsource.migrations  # noqa: F401 - teaches Alembic the triggers of the event log
from alembic import context
from sqlalchemy import Connection, Engine, create_engine, pool

from project_name.models import Base
from project_name.settings import database_url


def run_on(connection: Connection) -> None:
    """Run them."""
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


given: Engine | None = context.config.attributes.get("engine")
with (given or create_engine(database_url(), poolclass=pool.NullPool)).connect() as opened:
    run_on(opened)
