"""Columns that ``@evolves`` methods set: those that round, and those that are unique."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

import pytest
from sqlalchemy import Double, Engine, MetaData, Numeric, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import DomainEvent, EventReplayer, ReadModel, ReadModelManager, RecordedEvent, evolves, map_from_event, verify
from tests.bank import AnyAccount, Closed, Opened
from tests.committing import commit_events
from tests.shop import AnyOrder, OrderPlaced


class Base(DeclarativeBase):
    """The application's declarative base."""


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


class Order(AnyOrder, Base):
    """An order, for its total."""

    __aggregate_type__ = "evolving.Order"


class Rounded(ReadModel, Base):
    """Sums that its columns round, to whole numbers where a precision alone is given."""

    __tablename__ = "rounded_sums"
    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    whole: Mapped[Decimal] = mapped_column(Numeric(5), default=Decimal(0))
    double: Mapped[float] = mapped_column(Double, default=0.0)

    @evolves(OrderPlaced)
    def _placed(self, recorded: RecordedEvent[OrderPlaced]) -> None:
        self.whole += recorded.event.total
        self.double += float(recorded.event.total)


def test_rows_of_rounding_columns_do_not_depend_on_how_many_events_come_together(engine: Engine) -> None:
    commit_events(engine, Order, "p", *[OrderPlaced(customer_id="c-1", total=Decimal("0.444"))] * 4)
    manager = ReadModelManager(engine, Base)
    found: list[tuple[Decimal, float]] = []
    for batch_size in (1, 2, 4):
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM rounded_sums"))
            connection.execute(text("DELETE FROM projection_positions WHERE projection_name = 'Rounded'"))
        manager.catch_up(Rounded, batch_size=batch_size)
        with Session(engine) as session:
            row = session.get_one(Rounded, "p")
            found.append((row.whole, row.double))
    EventReplayer(engine, Base).rebuild(Rounded)
    with Session(engine) as session:
        row = session.get_one(Rounded, "p")
        found.append((row.whole, row.double))
    assert len(set(found)) == 1
    assert found[0][0] == 0
    assert verify(engine, Base, only=["Rounded"]).is_sound


class Account(AnyAccount, Base):
    """An account, of which its owner has no other."""

    __aggregate_type__ = "evolving.Account"


class _Owners:
    """An owner is free again when the account gets another one, or is closed."""

    __removed_by__: ClassVar[tuple[type[DomainEvent], ...]] = (Closed,)
    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    owner: Mapped[str | None] = mapped_column(unique=True)

    @evolves(Opened)
    def _opened(self, recorded: RecordedEvent[Opened]) -> None:
        self.owner = recorded.event.owner


class OwnersOfTheirOwn(_Owners, ReadModel, Base):
    """In a table of its own."""

    __tablename__ = "owners_of_accounts"


class SharedOwners(_Owners, ReadModel, Base):
    """In the shared table."""

    __projection_name__ = "shared_owners"


@pytest.mark.parametrize("model", [OwnersOfTheirOwn, SharedOwners])
def test_a_unique_value_that_one_row_gives_up_is_taken_by_another_of_the_batch(engine: Engine, model: Any) -> None:
    manager = ReadModelManager(engine, Base)

    def happen(*events: tuple[str, DomainEvent]) -> None:
        with Session(engine) as session:
            for account_id, event in events:
                account = session.get(Account, account_id)
                if account is None:
                    session.add(account := Account(id=account_id))
                account.apply_event(event)
                session.flush()
            session.commit()
        manager.catch_up(model)

    happen(("a", Opened(owner="x")), ("b", Opened(owner="y")), ("c", Opened(owner="z")))
    happen(("a", Closed()), ("d", Opened(owner="x")))
    happen(("b", Opened(owner="w")), ("e", Opened(owner="y")))
    happen(("c", Closed()), ("d", Opened(owner="z")))
    with Session(engine) as session:
        assert {each.id: each.owner for each in session.scalars(select(model))} == {"b": "w", "d": "z", "e": "y"}
    assert verify(engine, Base, only=[model.__read_model_definition__.name]).is_sound
