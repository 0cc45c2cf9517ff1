"""Relationships with what has no table: no foreign key can say how to join, so the declaration must."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    configure_mappers,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from sa_eventsource import AggregateRoot, DeclarationError, DomainEvent, ReadModel, map_from_event


class Placed(DomainEvent):
    """An event."""

    __event_type__ = "joins.Placed"

    customer: str = ""


@pytest.fixture
def base() -> Iterator[Any]:
    """A declarative base whose mappers are not configured with those of other tests."""
    made: Any = type("Base", (DeclarativeBase,), {})
    yield made
    made.registry.dispose()


def _order(base: Any, **body: Any) -> Any:
    return type("Order", (AggregateRoot, base), {"__module__": __name__, "__ignored_events__": (Placed,), **body})


def _note(base: Any, order: Any, column: Any = None, annotation: Any = None) -> Any:
    annotations = {"id": Mapped[int], "order_id": Mapped[str]}
    if annotation is not None:
        annotations["order"] = annotation
    columns = {"id": mapped_column(primary_key=True), "order_id": mapped_column() if column is None else column}
    body = {"__module__": __name__, "__tablename__": "notes", "__annotations__": annotations, **columns, "order": order}
    return type("Note", (base,), body)


_ADVICE = (
    r"Note\.order: the aggregate Order has no table of its own.*"
    r'relationship\(primaryjoin="foreign\(Note\.order_id\) == Order\.id", viewonly=True\)'
)


@pytest.mark.parametrize("by", ["class", "name", "module", "function", "annotation", "foreign key"])
def test_a_relationship_to_an_aggregate_says_how_to_join(base: Any, by: str) -> None:
    order = _order(base)
    column = mapped_column(ForeignKey("orders.id")) if by == "foreign key" else None
    target = {"class": order, "name": "Order", "module": f"{__name__}.Order", "function": lambda: order}.get(by)
    note = _note(base, relationship(target), column, None if target else Mapped[order])  # type: ignore[valid-type]
    for _ in range(2):  # the mappers of the application are not left broken by the first error
        with pytest.raises(DeclarationError, match=_ADVICE):
            note()


def test_one_of_an_aggregate_says_so_too(base: Any) -> None:
    class Note(base):  # type: ignore[misc]
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        order_id: Mapped[str]

    _order(base, notes=relationship(Note))
    words = r'Order\.notes: the aggregate Order.*"foreign\(Note\.order_id\) == Order\.id"'
    with pytest.raises(DeclarationError, match=words):
        configure_mappers()


def test_one_to_a_read_model_in_the_shared_table_says_so_too(base: Any) -> None:
    class Order(ReadModel, base):  # type: ignore[misc]
        id: Mapped[str]
        customer: Mapped[str] = map_from_event(Placed)

    note = _note(base, relationship("Order"))
    with pytest.raises(DeclarationError, match=r"Note\.order: the read model Order has no table"):
        note()


def test_what_the_message_says_works(base: Any, engine: Engine) -> None:
    order_class = _order(base)
    note_class = _note(base, relationship("Order", primaryjoin="foreign(Note.order_id) == Order.id", viewonly=True))
    base.metadata.create_all(engine)
    with Session(engine) as session:
        order = order_class(id="o-1")
        order.apply_event(Placed())
        session.add_all([order, note_class(id=1, order_id="o-1")])
        session.commit()
    for options in ([], [selectinload(note_class.order)], [joinedload(note_class.order)]):
        with Session(engine) as session:
            note = session.scalars(select(note_class).options(*options)).one()
            assert (note.order.id, note.order.version) == ("o-1", 1)
    with Session(engine) as session:
        assert session.scalars(select(note_class.id).join(note_class.order)).all() == [1]
