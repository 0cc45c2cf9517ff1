"""A base that has commands, and no aggregate, has the tables for them."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, Table, inspect
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta, MappedAsDataclass, Session, registry

from sa_eventsource import Command, DeclarationError, EventSourceOptions, command_handler, schedule
from sa_eventsource.mapping import find_tables, tables_on

OPTIONS = EventSourceOptions(commands="commands")
TABLES = {"commands", "events", "parked_events", "projection_positions", "projections", "snapshots"}


class Sweep(Command[None]):
    """Sweep the floor."""

    __command_type__ = "base_of_commands.Sweep"


@command_handler(Sweep)
def sweep(_command: Sweep, _session: Session) -> None:
    """Do it."""


def test_create_all_makes_them(engine: Engine) -> None:
    class Base(DeclarativeBase):
        __eventsource__ = OPTIONS

    assert set(Base.metadata.tables) == TABLES
    Base.metadata.create_all(engine)
    assert set(inspect(engine).get_table_names()) >= TABLES
    with Session(engine) as session:
        schedule(session, Sweep(), base=Base)
        session.commit()


def test_the_base_s_own_metadata_has_them_with_its_naming_convention() -> None:
    class Base(DeclarativeBase):
        metadata = MetaData(schema="history", naming_convention={"pk": "pk_%(table_name)s"})
        __eventsource__ = OPTIONS

    class Registered(DeclarativeBase):
        registry = registry(metadata=MetaData(schema="other"))
        __eventsource__ = OPTIONS

    assert set(Base.metadata.tables) == {f"history.{name}" for name in TABLES}
    assert Base.metadata.tables["history.events"].primary_key.name == "pk_events"
    assert set(Registered.metadata.tables) == {f"other.{name}" for name in TABLES}


def test_bases_of_every_kind_have_them() -> None:
    class Dataclass(MappedAsDataclass, DeclarativeBase):
        __eventsource__ = OPTIONS

    class NoMeta(DeclarativeBaseNoMeta):
        metadata = MetaData()
        __eventsource__ = OPTIONS

    class Plain(DeclarativeBase):
        pass

    class Further(Plain):
        __abstract__ = True
        __eventsource__ = OPTIONS

    for each in (Dataclass, NoMeta, Further):
        assert set(each.metadata.tables) == TABLES


def test_without_commands_there_are_none_until_they_are_needed() -> None:
    class Base(DeclarativeBase):
        __eventsource__ = EventSourceOptions(events="log")

    assert find_tables(Base.metadata) is None


def test_options_that_do_not_fit_are_refused_where_the_tables_are_asked_for() -> None:
    own = MetaData()
    Table("events", own)

    class Base(DeclarativeBase):
        metadata = own
        __eventsource__ = OPTIONS

    assert set(Base.metadata.tables) == {"events"}
    with pytest.raises(DeclarationError):
        tables_on(Base.metadata, Base.__eventsource__)
