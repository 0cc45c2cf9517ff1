"""A declaration that fails leaves the one before it in its place, and what is declared again says what else must be."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, Integer, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, validates

from sa_eventsource import AggregateRoot, DeclarationError, DomainEvent, ReadModel, RedeclaredEventError, applies, map_from_event
from sa_eventsource.events import family, members
from sa_eventsource.mapping import tables_on

pytestmark = [pytest.mark.slow_on_sqlite, pytest.mark.filterwarnings("ignore:This declarative base already contains a class")]


class TicketOpened(DomainEvent):
    """A ticket was opened."""

    __event_type__ = "declarations.TicketOpened"
    n: int = 1


@pytest.fixture
def base() -> Any:
    """A declarative base with a working aggregate and two strong read models."""

    class Base(DeclarativeBase):
        pass

    _aggregate(Base)
    _model(Base, table=None)
    _model(Base, table="tickets")
    return Base


def _aggregate(base: Any, **body: Any) -> Any:
    body = {"__ignored_events__": (TicketOpened,), **body}
    return type("Ticket", (AggregateRoot, base), {"__module__": __name__, "__qualname__": "Ticket", **body})


def _model(base: Any, *, table: str | None, **body: Any) -> Any:
    name = "SharedTickets" if table is None else "OwnTickets"
    given = {} if table is None else {"__tablename__": table}
    annotations = {"id": Mapped[str], "n": Mapped[int]}
    field = {"n": map_from_event(TicketOpened, index=True)}
    settled = {"__module__": __name__, "__qualname__": name, "__consistency__": "strong", "__annotations__": annotations}
    return type(name, (ReadModel, base), {**settled, **field, **given, **body})


def _check_works(base: Any, engine: Engine) -> None:
    base.metadata.create_all(engine)
    tables = tables_on(base.metadata)
    with Session(engine) as session:
        ticket = tables.aggregate_classes["Ticket"](id="a")
        ticket.apply_event(TicketOpened(n=3))
        session.add(ticket)
        session.commit()
        for definition in tables.read_models.values():
            assert session.scalars(select(definition.model)).one().n == 3


_UNKNOWN_LINES: dict[str, Any] = {"lines": relationship(), "__annotations__": {"lines": "Mapped[Unknown, Other]"}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"__snapshot_frequency__": 0},
        {"tags": []},
        {"total": mapped_column()},
        _UNKNOWN_LINES,
        {"__mapper_args__": {"no_such_argument": 1}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_aggregate_that_fails_leaves_the_working_one(base: Any, engine: Engine, wrong: dict[str, Any]) -> None:
    before = dict(tables_on(base.metadata).aggregate_classes), set(base.metadata.tables)
    with pytest.raises((SQLAlchemyError, TypeError)):
        _aggregate(base, **wrong)
    assert (tables_on(base.metadata).aggregate_classes, set(base.metadata.tables)) == before
    _check_works(base, engine)


_CHECKED: dict[str, Any] = {"check": validates("n")(lambda _row, _name, value: value)}


@pytest.mark.parametrize("table", [None, "tickets"])
@pytest.mark.parametrize(
    "wrong", [{"__indexes__": (("unknown",),)}, {"__consistency__": "none"}, {"x": mapped_column()}, _CHECKED, {}]
)
def test_a_read_model_that_fails_leaves_the_working_one(
    base: Any, engine: Engine, table: str | None, wrong: dict[str, Any]
) -> None:
    tables = tables_on(base.metadata)
    before = dict(tables.read_models), {index.name for index in tables.projections.indexes}, set(base.metadata.tables)
    if wrong or table is not None:
        with pytest.raises(SQLAlchemyError):
            _model(base, table=table, **wrong)
        assert (tables.read_models, {index.name for index in tables.projections.indexes}, set(base.metadata.tables)) == before
    else:
        assert _model(base, table=None) is tables.read_models["SharedTickets"].model
    _check_works(base, engine)


def test_the_first_declaration_that_fails_leaves_no_tables() -> None:
    class Base(DeclarativeBase):
        pass

    with pytest.raises(DeclarationError):
        _aggregate(Base, __snapshot_frequency__=0)
    assert not Base.metadata.tables


def test_an_own_table_named_events_is_told_of_the_option() -> None:
    class Base(DeclarativeBase):
        pass

    type("Event", (Base,), {"__module__": __name__, "__tablename__": "events", "id": mapped_column(Integer, primary_key=True)})
    with pytest.raises(DeclarationError, match=r"'events'.*__eventsource__ = EventSourceOptions\(events="):
        _aggregate(Base)
    assert set(Base.metadata.tables) == {"events"}


def test_a_read_model_in_a_table_of_the_library_is_told_of_the_option(base: Any) -> None:
    with pytest.raises(DeclarationError, match="__eventsource__"):
        _model(base, table="snapshots")


def test_an_event_declared_again_says_what_to_declare_again() -> None:
    class Base(DeclarativeBase):
        pass

    def declare() -> Any:
        return type(
            "Moved", (DomainEvent,), {"__module__": __name__, "__qualname__": "Moved", "__event_type__": "declarations.Moved"}
        )

    former = declare()
    ticket = _aggregate(Base, _moved=applies(former)(lambda self, event: None))(id="a")
    present = declare()
    with pytest.raises(RedeclaredEventError, match=r"Run that of Ticket again too") as caught:
        ticket.apply_event(present())
    assert caught.value.to_repeat == "Ticket"
    again = _aggregate(Base, __aggregate_type__="Again", _moved=applies(present)(lambda self, event: None))(id="a")
    with pytest.raises(RedeclaredEventError, match="Make the event again"):
        again.apply_event(former())


@pytest.mark.parametrize("is_abstract", [False, True], ids=["an event", "an abstract class"])
def test_an_event_whose_base_was_declared_again_is_still_one_of_its_events(is_abstract: bool) -> None:
    class Base(DeclarativeBase):
        pass

    name = "Sighted" if is_abstract else "Spotted"

    def declare() -> Any:
        return type(name, (DomainEvent,), {"__module__": __name__, "__qualname__": name, "__abstract__": is_abstract})

    def inherit(base: Any) -> Any:
        return type(f"{name}Far", (base,), {"__module__": __name__, "__qualname__": f"{name}Far"})

    far = inherit(declare())
    present = declare()  # its cell was run again, and that of the event which inherits from it was not
    assert far in family(present)
    assert members((present,))[far] is present
    bird = _aggregate(Base, _seen=applies(present)(lambda self, event: None))(id="a")
    with pytest.raises(
        RedeclaredEventError, match=rf"{name} was declared again after {name}Far.*Run that of {name}Far again"
    ) as caught:
        bird.apply_event(far())
    assert caught.value.to_repeat == f"{name}Far"
    again = inherit(present)
    bird.apply_event(again())
    assert again in family(present)
    assert far not in family(present)


def test_abstract_classes_that_a_function_makes_are_not_taken_for_each_other() -> None:
    def base_of(_currency: str) -> Any:
        class Paying(DomainEvent):
            __abstract__ = True

        return Paying

    euros, dollars = base_of("EUR"), base_of("USD")
    paid = type("PaidInEuros", (euros,), {"__module__": __name__, "__event_type__": "declarations.PaidInEuros"})
    assert family(euros) == (paid,)
    assert family(dollars) == ()


@pytest.mark.parametrize("name", ["events", "projections", "snapshots", "projection_positions", "parked_events"])
def test_a_table_of_the_application_does_not_extend_one_of_the_library(base: Any, name: str) -> None:
    """SQLAlchemy advises ``extend_existing`` where a table comes after the library's of the same name."""
    body = {"__module__": __name__, "__tablename__": name, "id": mapped_column(Integer, primary_key=True)}
    with pytest.raises(SQLAlchemyError, match="extend_existing=True"):
        type("Entity", (base,), body)
    with pytest.raises(DeclarationError, match=rf"Entity extends the library's own table '{name}'.*EventSourceOptions\({name}="):
        type("Entity", (base,), {**body, "__table_args__": {"extend_existing": True}})
