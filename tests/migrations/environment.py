"""An Alembic environment made from the template, in a folder of the test's own."""

from __future__ import annotations

import importlib
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
import enum
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, ReadModel, applies, map_from_event
from sa_eventsource.read_models import append, count, day, increment, max_, sum_


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


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Grade(enum.IntEnum):
    FIRST = 1


class ParcelWeighed(DomainEvent):
    __event_type__ = "{module}.ParcelWeighed"
    customer: int
    label: str
    weight: Decimal
    share: float
    on: date
    tag: UUID
    size: Size
    grade: Grade
    extra: dict[str, Any]


class Parcels(ReadModel, Base):
    __indexes__ = (("label", "weight"),)
    id: Mapped[str]
    label: Mapped[str] = map_from_event(ParcelWeighed, index=True)
    weight: Mapped[Decimal] = map_from_event(ParcelWeighed, index=True)
    tag: Mapped[UUID] = map_from_event(ParcelWeighed, unique=True)
    on: Mapped[date] = map_from_event(ParcelWeighed, index=True)
    share: Mapped[float] = map_from_event(ParcelWeighed, index=True)
    size: Mapped[Size] = map_from_event(ParcelWeighed, index=True)
    sent: Mapped[bool] = map_from_event({{ParcelSent: True}}, index=True)


class ParcelsByDay(ReadModel, Base):
    __projection_name__ = "it's by day, of parcels whose projection has a name that is longer than PostgreSQL's names are"
    customer: Mapped[int] = map_from_event(ParcelWeighed, key=True)
    day: Mapped[date] = map_from_event(key=True, source=day())
    number: Mapped[int] = map_from_event(ParcelWeighed, reduce=count(), index=True)


class CustomerParcels(ReadModel, Base):
    __tablename__ = "customer_parcels"
    __indexes__ = (("label", "weight"),)
    customer: Mapped[int] = map_from_event(ParcelWeighed, key=True, column=mapped_column(ForeignKey(Customer.id)))
    label: Mapped[str] = map_from_event(ParcelWeighed, index=True)
    labels: Mapped[list[str]] = map_from_event(ParcelWeighed, reduce=append("label"))
    weight: Mapped[Decimal] = map_from_event(ParcelWeighed, reduce=sum_())
    share: Mapped[float] = map_from_event(ParcelWeighed)
    at: Mapped[datetime] = map_from_event(ParcelWeighed, reduce=max_("occurred_at"))
    on: Mapped[date] = map_from_event(ParcelWeighed)
    tag: Mapped[UUID] = map_from_event(ParcelWeighed, unique=True)
    size: Mapped[Size] = map_from_event(ParcelWeighed)
    grade: Mapped[Grade] = map_from_event(ParcelWeighed)
    extra: Mapped[dict[str, Any]] = map_from_event(ParcelWeighed)
"""


class Environment:
    """Models, an Alembic environment and the database it works on."""

    def __init__(self, folder: Path, engine: Engine, module: str, body: str = "pass") -> None:
        """Write the models and run ``alembic init`` with the template."""
        self.engine = engine
        self.module = module
        self.body = body
        self.folder = folder
        self.write(MODELS)
        self.config = Config(str(folder / "alembic.ini"))
        command.init(self.config, str(folder / "migrations"), template=str(template_path()))
        self.config = Config(str(folder / "alembic.ini"))
        self.config.set_main_option("script_location", str(folder / "migrations"))
        self.config.set_main_option("metadata", f"{module}:Base.metadata")
        self.config.set_main_option("sqlalchemy.url", engine.url.render_as_string(hide_password=False).replace("%", "%%"))
        self.versions = folder / "migrations" / "versions"

    def write(self, models: str) -> None:
        """Write the models, those of another release if there are some already."""
        sys.modules.pop(self.module, None)
        (self.folder / f"{self.module}.py").write_text(models.format(body=self.body, module=self.module))
        importlib.invalidate_caches()

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


NO_POSITION_KEY = """
    DO $$ DECLARE key text; BEGIN
        SELECT conname INTO key FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND conkey = ARRAY[attnum]
        WHERE conrelid = '{table}'::regclass AND contype = 'u' AND attname = 'position';
        IF key IS NOT NULL THEN EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I', key); END IF;
    END $$
"""
"""What Alembic writes before a move, for a constraint that no partitioned table can have."""
