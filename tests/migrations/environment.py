"""An Alembic environment made from the template, in a folder of the test's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from sa_eventsource.migrations import render_item, template_path

MODELS = """
from sqlalchemy import Integer, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, applies


class Base(DeclarativeBase):
    {body}


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)


class ParcelSent(DomainEvent):
    __event_type__ = "{module}.ParcelSent"


class Parcel(AggregateRoot, Base):
    sent: bool = False

    @applies(ParcelSent)
    def _sent(self, event: ParcelSent) -> None:
        self.sent = True
"""


class Environment:
    """Models, an Alembic environment and the database it works on."""

    def __init__(self, folder: Path, engine: Engine, module: str, body: str = "pass") -> None:
        """Write the models and run ``alembic init`` with the template."""
        self.engine = engine
        self.module = module
        (folder / f"{module}.py").write_text(MODELS.format(body=body, module=module))
        self.config = Config(str(folder / "alembic.ini"))
        command.init(self.config, str(folder / "migrations"), template=str(template_path()))
        self.config = Config(str(folder / "alembic.ini"))
        self.config.set_main_option("script_location", str(folder / "migrations"))
        self.config.set_main_option("metadata", f"{module}:Base.metadata")
        self.config.set_main_option("sqlalchemy.url", engine.url.render_as_string(hide_password=False).replace("%", "%%"))
        self.versions = folder / "migrations" / "versions"

    @property
    def metadata(self) -> Any:
        """The models' metadata."""
        return sys.modules[self.module].Base.metadata

    def revise(self, message: str = "event tables") -> str:
        """Autogenerate a revision and return its text."""
        script: Any = command.revision(self.config, message, autogenerate=True)
        return Path(script.path).read_text()

    def upgrade(self) -> None:
        """Upgrade to the newest revision."""
        command.upgrade(self.config, "head")

    def downgrade(self) -> None:
        """Downgrade to nothing."""
        command.downgrade(self.config, "base")

    def difference(self, **options: Any) -> list[Any]:
        """Compare the database with the models."""
        schemas = {table.schema for table in self.metadata.tables.values()} - {None}
        with self.engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "include_schemas": bool(schemas),
                    "include_name": lambda name, kind, _: kind != "schema" or name is None or name in schemas,
                    "render_item": render_item,
                    **options,
                },
            )
            found: list[Any] = compare_metadata(context, self.metadata)
            return found

    def left_over(self) -> set[str]:
        """Name the tables, functions and triggers in the database, Alembic's own table aside."""
        inspector = inspect(self.engine)
        names = set(inspector.get_table_names()) - {"alembic_version"}
        with self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                names |= set(
                    connection.scalars(text("SELECT proname FROM pg_proc WHERE pronamespace::regnamespace::text !~ '^(pg_|inf)'"))
                )
            else:
                names |= set(connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")))
        return names
