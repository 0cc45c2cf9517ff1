"""Bases in another order than meant, or none: it works, or the error says which order is meant."""

from __future__ import annotations

import types
import typing
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    declarative_base,
    declared_attr,
    mapped_column,
    registry,
)

from sa_eventsource import AggregateRoot, DeclarationError, DomainEvent, ProcessManager, ReadModel, handles, map_from_event
from sa_eventsource.mapping import find_tables, tables_on


class Ordered(DomainEvent):
    """An event."""

    __event_type__ = "bases.Ordered"

    customer: str = ""


def _plain() -> Any:
    return type("Base", (DeclarativeBase,), {})


def _naming_tables() -> Any:
    """Make a base that names tables by itself, as many do."""

    class Base(DeclarativeBase):
        @declared_attr.directive
        def __tablename__(cls) -> str:
            return cls.__name__.lower()

    return Base


def _with_metaclass() -> Any:
    return declarative_base()


def _with_dataclasses() -> Any:
    return type("Base", (MappedAsDataclass, DeclarativeBase), {})


@pytest.mark.filterwarnings("ignore:This declarative base already contains a class")
@pytest.mark.parametrize("make", [_plain, _naming_tables, _with_metaclass, _with_dataclasses])
@pytest.mark.parametrize("kind", [AggregateRoot, ProcessManager, AggregateRoot[UUID]])
def test_an_aggregate_is_named_before_the_base(make: Any, kind: Any) -> None:
    base = make()
    root = typing.get_origin(kind) or kind
    body = {"__module__": __name__, "__aggregate_type__": "bases.Order", "__ignored_events__": (Ordered,)}
    for _ in range(2):  # the first one leaves nothing behind
        with pytest.raises(DeclarationError, match=rf"names its declarative base first.*class Order\({root.__name__}, Base\)"):
            types.new_class("Order", (base, kind), exec_body=lambda namespace: namespace.update(body))
    assert find_tables(base.metadata) is None


def test_a_mixin_may_come_before_both() -> None:
    class Noted:
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)

    class Base(DeclarativeBase):
        pass

    class Order(Noted, AggregateRoot, Base):
        __ignored_events__ = (Ordered,)

    assert Order(id="x").id == "x"
    with pytest.raises(DeclarationError, match=r"Write class Late\(AggregateRoot, Noted, Base\)"):

        class Late(Noted, Base, AggregateRoot):
            __ignored_events__ = (Ordered,)


def _with_fields(base: Any, **body: Any) -> Any:
    annotations = {"__annotations__": {"id": Mapped[str], "customer": Mapped[str]}}
    fields = {"id": map_from_event(key=True, source="aggregate_id"), "customer": map_from_event(Ordered)}
    return type("Shown", (base, ReadModel), {"__module__": __name__, **annotations, **fields, **body})


def _with_handler(base: Any, **body: Any) -> Any:
    columns = {"__annotations__": {"id": Mapped[str]}, "id": mapped_column(primary_key=True)}
    take = classmethod(handles(Ordered)(lambda cls, recorded, session: None))
    return type("Shown", (base, ReadModel), {"__module__": __name__, **columns, "take": take, **body})


@pytest.mark.filterwarnings("ignore:This declarative base already contains a class")
@pytest.mark.parametrize("body", [{}, {"__tablename__": "shown"}], ids=["shared table", "own table"])
@pytest.mark.parametrize("declare", [_with_fields, _with_handler])
@pytest.mark.parametrize("make", [_plain, _naming_tables])
def test_a_read_model_is_named_before_the_base(make: Any, declare: Any, body: dict[str, Any]) -> None:
    base = make()
    for _ in range(2):  # the first one leaves no table behind, so that the declaration can be corrected and run again
        with pytest.raises(DeclarationError, match=r"Name ReadModel first.*class Shown\(ReadModel, Base\)"):
            declare(base, **body)


def test_a_base_with_a_metaclass_takes_any_order() -> None:
    base: Any = declarative_base()
    _with_fields(base)
    assert tables_on(base.metadata).read_models.keys() == {"Shown"}


@pytest.mark.parametrize("own", [False, True], ids=["shared table", "own table"])
def test_a_base_that_names_tables_by_itself_gives_a_read_model_none(engine: Engine, own: bool) -> None:
    base = _naming_tables()

    class Order(AggregateRoot, base):  # type: ignore[misc, valid-type]
        __ignored_events__ = (Ordered,)

    class Shown(ReadModel, base):  # type: ignore[misc, valid-type]
        if own:
            __tablename__ = "shown_here"
        __consistency__ = "strong"
        id: Mapped[str]
        customer: Mapped[str] = map_from_event(Ordered)

    base.metadata.create_all(engine)
    assert ("shown_here" in base.metadata.tables, "shown" in base.metadata.tables) == (own, False)
    with Session(engine) as session:
        order = Order(id="x")
        order.apply_event(Ordered(customer="ann"))
        session.add(order)
        session.commit()
        assert session.scalars(select(Shown.customer)).all() == ["ann"]


def test_a_read_model_without_a_base_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"class Shown\(ReadModel, Base\).*__abstract__ = True"):

        class Shown(ReadModel):
            id: Mapped[str]
            customer: Mapped[str] = map_from_event(Ordered)


def test_a_read_model_that_is_mapped_by_hand_is_refused() -> None:
    class Shown(ReadModel):
        __abstract__ = True

    class Base(DeclarativeBase):
        pass

    class Other(Base):
        __tablename__ = "others"
        id: Mapped[str] = mapped_column(primary_key=True)

    with pytest.raises(DeclarationError, match=r"class Shown\(ReadModel, Base\)"):
        registry(metadata=Base.metadata).map_imperatively(Shown, Other.__table__)
    assert "others" in Base.metadata.tables
