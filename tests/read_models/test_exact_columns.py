"""Columns whose types the application chooses: they hold what the events make, or are refused."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import CHAR, REAL, Date, DateTime, Engine, Float, Integer, Numeric, String, TypeDecorator, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    DeclarationError,
    EventReplayer,
    EventStore,
    ReadModel,
    ReadModelManager,
    fold,
    map_from_event,
    verify,
)
from sa_eventsource.read_models import first, max_, min_, sum_
from tests.committing import commit_events
from tests.parameters import plainly
from tests.shop import AnyOrder, OrderPlaced

_FIELDS = ("total", "placed", "latest", "earliest", "largest", "smallest", "whole")


class Base(DeclarativeBase):
    """Base of a shop whose rows hold whole cents, of parts of which its events know."""


class Order(AnyOrder[str], Base):
    """An order, for its total."""

    __aggregate_type__ = "exact_columns.Order"


class _Totals:
    id: Mapped[str]
    total: Mapped[Decimal] = map_from_event(OrderPlaced, reduce=sum_(), column=mapped_column(Numeric(10, 2)))
    placed: Mapped[Decimal] = map_from_event(
        OrderPlaced, reduce=sum_(lambda event: event.total * -1), column=mapped_column(Numeric(10, 2))
    )
    latest: Mapped[Decimal] = map_from_event(OrderPlaced, source="total", column=mapped_column(Numeric(10, 2)))
    earliest: Mapped[Decimal] = map_from_event(OrderPlaced, reduce=first("total"), column=mapped_column(Numeric(10, 2)))
    largest: Mapped[Decimal] = map_from_event(OrderPlaced, reduce=max_("total"), column=mapped_column(Numeric(10, 2)))
    smallest: Mapped[Decimal] = map_from_event(OrderPlaced, reduce=min_("total"), column=mapped_column(Numeric(10, 2)))
    whole: Mapped[Decimal] = map_from_event(OrderPlaced, reduce=sum_("total"), column=mapped_column(Numeric(5)))


class StrongTotals(_Totals, ReadModel, Base):
    """Written with the events."""

    __tablename__ = "exact_strong_totals"
    __consistency__ = "strong"


class EventualTotals(_Totals, ReadModel, Base):
    """Behind the log."""

    __tablename__ = "exact_eventual_totals"


def _row(engine: Engine, model: type[Any]) -> dict[str, Decimal]:
    with Session(engine) as session:
        row = session.scalars(select(model)).one()
        return {name: getattr(row, name) for name in _FIELDS}


@pytest.mark.parametrize("batch_size", [1, 10])
def test_values_are_rounded_to_the_places_of_their_column_before_they_come_together(engine: Engine, batch_size: int) -> None:
    Base.metadata.create_all(engine)
    for total in ("0.005", "0.014", "0.005", "0.5"):
        commit_events(engine, Order, "o-1", OrderPlaced(customer_id="c-1", total=Decimal(total)))
    ReadModelManager(engine, Base).catch_up(batch_size=batch_size)
    with Session(engine) as session:
        folded = fold(StrongTotals, EventStore(session).events.all())["o-1"]
    expected = {
        "total": Decimal("0.53"),
        "placed": Decimal("-0.53"),
        "latest": Decimal("0.5"),
        "earliest": Decimal("0.01"),
        "largest": Decimal("0.5"),
        "smallest": Decimal("0.01"),
        "whole": Decimal(1),
    }
    assert {name: folded[name] for name in _FIELDS} == expected
    for model in (StrongTotals, EventualTotals):
        assert _row(engine, model) == expected
        EventReplayer(engine, Base).rebuild(model)
        assert _row(engine, model) == expected
    assert verify(engine, Base).is_sound


def test_another_number_of_places_is_another_declaration() -> None:
    def fingerprint(column_type: Any) -> str:
        class Places(DeclarativeBase):
            """Base of one release."""

        class Totals(ReadModel, Places):
            __tablename__ = "exact_totals"
            total: Mapped[Decimal] = map_from_event(OrderPlaced, reduce=sum_(), column=mapped_column(column_type))

        return Totals.__read_model_definition__.fingerprint

    assert len({fingerprint(Numeric(10, 2)), fingerprint(Numeric(10, 3)), fingerprint(Numeric())}) == 3
    assert fingerprint(Numeric(10, 2)) == fingerprint(Numeric(12, 2))


class Lowered(TypeDecorator[str]):
    """A type of the application's that changes what it stores; the database, which fills the rows, does not call it."""

    impl = String
    cache_ok = True


@pytest.mark.parametrize(
    ("annotation", "source", "column_type", "advice"),
    [
        (Decimal, "total", Integer(), "write Numeric"),
        (Decimal, "total", Float(), "write Numeric"),
        (Decimal, "total", REAL(), "write Numeric"),
        (Decimal, "total", Numeric(asdecimal=False), r"annotate Mapped\[Decimal\]"),
        (datetime, "occurred_at", DateTime(), r"write DateTime\(timezone=True\)"),
        (datetime, "occurred_at", Date(), r"write DateTime\(timezone=True\)"),
        (str, "customer_id", CHAR(6), "write String"),
        (str, "customer_id", Lowered(), "leave the type out"),
    ],
    ids=plainly,
)
def test_columns_that_change_values_are_refused(annotation: Any, source: str, column_type: Any, advice: str) -> None:
    class Refusing(DeclarativeBase):
        """Base of the models that are refused."""

    members = {
        "__module__": __name__,
        "__tablename__": "changing",
        "__annotations__": {"a": Mapped[annotation]},
        "a": map_from_event(OrderPlaced, source=source, column=mapped_column(column_type)),
    }
    with pytest.raises(DeclarationError, match=rf"Model\.a has a column of type .* changes values when a row is stored.*{advice}"):
        type("Model", (ReadModel, Refusing), members)


def test_a_key_whose_column_changes_it_is_refused() -> None:
    class Refusing(DeclarativeBase):
        """Base of the model that is refused."""

    with pytest.raises(DeclarationError, match=r"Days\.moment has a column of type DateTime.*write DateTime\(timezone=True\)"):

        class Days(ReadModel, Refusing):
            __tablename__ = "exact_days"
            moment: Mapped[datetime] = map_from_event(key=True, source="occurred_at", column=mapped_column(DateTime()))
            total: Mapped[Decimal] = map_from_event(OrderPlaced, reduce=sum_())
