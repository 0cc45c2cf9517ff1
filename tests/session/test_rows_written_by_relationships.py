"""What a relationship would write to aggregates, events or rows of read models while a flush is at work is refused, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Column, Engine, ForeignKey, String, Table, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, foreign, mapped_column, relationship, remote

from sa_eventsource import (
    ImmutableEventError,
    ReadModel,
    ReadModelWriteError,
    RecordedEvent,
    event_record,
    handles,
    map_from_event,
)
from tests.bank import AnyAccount, Opened


class Base(DeclarativeBase):
    """Base of everything here."""


class Account(AnyAccount, Base):
    """An account."""

    def give(self, owner: str) -> Account:
        """Give it to somebody."""
        self.apply_event(Opened(owner=owner))
        return self


class AccountRow(ReadModel, Base):
    """An account's row."""

    __tablename__ = "row_relationships_accounts"
    __projection_name__ = "row_relationships_accounts"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(Opened, key=True, source="aggregate_id")
    owner: Mapped[str] = map_from_event(Opened)


class AccountNumber(ReadModel, Base):
    """Written by a handler, and by its relationships."""

    __tablename__ = "row_relationships_numbers"
    __projection_name__ = "row_relationships_numbers"
    __consistency__ = "strong"

    id: Mapped[str] = mapped_column(primary_key=True)
    next_id: Mapped[str | None]
    previous: Mapped[list[AccountNumber]] = relationship(
        primaryjoin=lambda: remote(foreign(AccountNumber.next_id)) == AccountNumber.id
    )

    @classmethod
    @handles(Opened)
    def _opened(cls, event: RecordedEvent[Opened], session: Session) -> None:
        present = cls(id=f"{event.aggregate_id} {event.version}")
        before = session.get(cls, f"{event.aggregate_id} {event.version - 1}")
        present.previous = [] if before is None else [before]
        session.add(present)


held = Table(
    "row_relationships_held",
    Base.metadata,
    Column("customer", ForeignKey("row_relationships_customers.id")),
    Column("account", String),
)


class Customer(Base):
    """Refers to accounts, their rows and their events in all ways that would write these."""

    __tablename__ = "row_relationships_customers"

    id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]
    best_id: Mapped[str | None]
    best: Mapped[Account | None] = relationship(
        primaryjoin=lambda: foreign(Customer.best_id) == Account.id, cascade="all, delete-orphan", single_parent=True
    )
    accounts: Mapped[list[Account]] = relationship(
        secondary=held,
        primaryjoin=lambda: Customer.id == foreign(held.c.customer),
        secondaryjoin=lambda: foreign(held.c.account) == Account.id,
        cascade="all, delete-orphan",
        single_parent=True,
    )
    rows: Mapped[list[AccountRow]] = relationship(primaryjoin=lambda: Customer.id == foreign(AccountRow.owner))
    owned_rows: Mapped[list[AccountRow]] = relationship(
        primaryjoin=lambda: Customer.id == foreign(AccountRow.owner), cascade="all, delete-orphan", overlaps="rows"
    )
    late_rows: Mapped[list[AccountRow]] = relationship(
        primaryjoin=lambda: Customer.id == foreign(AccountRow.owner), post_update=True, overlaps="rows, owned_rows"
    )
    events: Mapped[list[Any]] = relationship(
        lambda: event_record(Base), primaryjoin=lambda: foreign(event_record(Base).version) == Customer.number, overlaps="records"
    )
    owned_events: Mapped[list[Any]] = relationship(
        lambda: event_record(Base),
        primaryjoin=lambda: foreign(event_record(Base).version) == Customer.number,
        cascade="all, delete-orphan",
        overlaps="events",
    )


class Label(Base):
    """Refers to an account's row, and is in a collection of it."""

    __tablename__ = "row_relationships_labels"

    id: Mapped[int] = mapped_column(primary_key=True)
    row_id: Mapped[str | None]
    row: Mapped[AccountRow | None] = relationship(primaryjoin=lambda: foreign(Label.row_id) == AccountRow.id, backref="labels")


@pytest.fixture
def customers(engine: Engine) -> Engine:
    """Engine on a database of each kind, with a customer who has the rows of two accounts, and one who has the accounts."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        one, other = Account(id="a-1").give("ann"), Account(id="a-2").give("ann")
        session.add_all([Customer(id="ann", number=1), Customer(id="ben", number=2, best=one, accounts=[one, other])])
        session.commit()
    return engine


def stored(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        statements = (
            "SELECT aggregate_id, version FROM events ORDER BY position",
            "SELECT id, owner FROM row_relationships_accounts ORDER BY id",
            "SELECT id, best_id FROM row_relationships_customers ORDER BY id",
            "SELECT account FROM row_relationships_held ORDER BY account",
        )
        return [[tuple(row) for row in connection.execute(text(each))] for each in statements]


ORPHANS: dict[str, Callable[[Customer], None]] = {
    "many to one": lambda customer: setattr(customer, "best", None),
    "many to many, one of them": lambda customer: customer.accounts.remove(customer.accounts[0]),
    "many to many, all": lambda customer: setattr(customer, "accounts", []),
}


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "changed"])
@pytest.mark.parametrize("orphan", ORPHANS.values(), ids=ORPHANS.keys())
def test_an_orphan_that_is_an_aggregate_is_not_deleted(
    customers: Engine, orphan: Callable[[Customer], None], *, changed: bool, heard: bool
) -> None:
    before = stored(customers)
    with Session(customers) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        customer, account = session.get_one(Customer, "ben"), session.get_one(Account, "a-1")
        assert account in {customer.best, *customer.accounts}
        if changed:
            account.give("ben")
        orphan(customer)
        with pytest.raises(ImmutableEventError, match="deleting <Account 'a-1'"):
            session.flush()
        session.rollback()
        assert account in session
        assert (customer.best, len(customer.accounts)) == (account, 2)
        assert stored(customers) == before
        account.give("cleo")
        session.commit()
    assert stored(customers)[0][-1] == ("a-1", 2)


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
def test_an_orphan_whose_parent_is_in_no_session_is_not_deleted(customers: Engine, *, heard: bool) -> None:
    before = stored(customers)
    with Session(customers) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        customer, account = session.get_one(Customer, "ben"), session.get_one(Account, "a-1")
        assert customer.best is account
        _ = customer.accounts
        session.expunge(customer)
        session.add(account)  # which has gone with it
        customer.best = None
        customer.accounts.remove(account)
        account.give("ben")
        with pytest.raises(ImmutableEventError, match="deleting <Account 'a-1'"):
            session.commit()
    assert stored(customers) == before


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
def test_aggregates_of_a_parent_that_is_deleted_are_not(customers: Engine, *, heard: bool) -> None:
    before = stored(customers)
    with Session(customers) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        session.get_one(Account, "a-1").give("ben")
        session.delete(session.get_one(Customer, "ben"))
        with pytest.raises(ImmutableEventError, match="deleting <Account 'a-"):
            session.commit()
    assert stored(customers) == before


WRITES: dict[str, Callable[[Session, Customer, Customer, AccountRow], None]] = {
    "a foreign key of a parent that is deleted": lambda session, customer, _other, _row: session.delete(customer),
    "a foreign key of what is removed": lambda _session, customer, _other, _row: customer.rows.clear(),
    "a foreign key of what is appended": lambda _session, _customer, other, row: other.rows.append(row),
    "a new row": lambda _session, _customer, other, _row: other.rows.append(AccountRow(id="a-3")),
    "an orphan": lambda _session, customer, _other, _row: customer.owned_rows.clear(),
    "a row after the others": lambda _session, _customer, other, row: other.late_rows.append(row),
}


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_relationships_do_not_write_rows_of_read_models(
    customers: Engine, write: Callable[[Session, Customer, Customer, AccountRow], None], *, heard: bool
) -> None:
    before = stored(customers)
    with Session(customers) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        write(session, session.get_one(Customer, "ann"), session.get_one(Customer, "ben"), session.get_one(AccountRow, "a-1"))
        with pytest.raises(ReadModelWriteError):
            session.commit()
    assert stored(customers) == before


@pytest.mark.parametrize("key", ["events", "owned_events"])
@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
def test_relationships_do_not_write_events(customers: Engine, key: str, *, heard: bool) -> None:
    before = stored(customers)
    with Session(customers) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        customer = session.get_one(Customer, "ann")
        assert len(getattr(customer, key)) == 2
        setattr(customer, key, [])
        with pytest.raises(ImmutableEventError):
            session.commit()
    assert stored(customers) == before


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
def test_rows_that_handlers_write_do_not_open_the_way_for_others(customers: Engine, *, heard: bool) -> None:
    with Session(customers) as session:
        if heard:
            event.listen(session, "after_flush", lambda *_: None)
        session.get_one(Account, "a-1").give("ann")
        session.commit()
        numbers = select(AccountNumber.id, AccountNumber.next_id).order_by(AccountNumber.id)
        assert session.execute(numbers).all() == [("a-1 1", "a-1 2"), ("a-1 2", None), ("a-2 1", None)]
        session.get_one(Account, "a-1").give("ann")
        other = session.get_one(Customer, "ben")
        other.rows.append(session.get_one(AccountRow, "a-2"))
        with pytest.raises(ReadModelWriteError, match="AccountRow"):
            session.commit()
        session.rollback()
        session.get_one(AccountNumber, "a-1 1").next_id = None
        with pytest.raises(ReadModelWriteError, match="changing <AccountNumber"):
            session.commit()


def test_what_refers_to_a_row_of_a_read_model_is_written(customers: Engine) -> None:
    with Session(customers) as session:
        row = session.get_one(AccountRow, "a-1")
        session.add(Label(id=1, row=row))
        session.commit()
        assert session.scalars(select(Label.row_id)).all() == ["a-1"]
        assert [each.id for each in row.labels] == [1]  # type: ignore[attr-defined]
