"""Searching for personal values by a keyed hash, which is in no event, and gone with the person."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, String, func, inspect, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column

from sa_eventsource import (
    DeclarationError,
    DomainEvent,
    EnvironmentKeys,
    EventReplayer,
    EventSourceOptions,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    SearchHash,
    ServiceKeys,
    evolves,
    forget,
    map_from_event,
    verify,
)
from sa_eventsource.exceptions import MasterKeyError
from sa_eventsource.migrations.autogenerate import render_item
from tests.committing import commit_events
from tests.privacy.customers import AnyCustomer, Registered, Visited, registered
from tests.privacy.keys import MASTER_KEYS, written
from tests.privacy.searching import places

VARIABLE = "SA_EVENTSOURCE_TEST_SEARCH_KEYS"
os.environ.setdefault(VARIABLE, written("2026", b"s"))
EMAIL = SearchHash(EnvironmentKeys(VARIABLE), "search_hash.email")


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Customer(AnyCustomer, Base):
    __aggregate_type__ = "search_hash.Customer"


class Customers(ReadModel, Base):
    __tablename__ = "search_hash_customers"
    __projection_name__ = "search_hash.customers"
    __personal_data__ = "clear"

    id: Mapped[str] = map_from_event(Registered, Visited, key=True, source="aggregate_id")
    email: Mapped[str | None] = mapped_column(EMAIL, index=True)
    visits: Mapped[int] = mapped_column(default=0)

    @evolves(Registered)
    def _registered(self, recorded: RecordedEvent[Registered]) -> None:
        self.email = EMAIL.of(recorded.event.email)

    @evolves(Visited)
    def _visited(self, recorded: RecordedEvent[Visited]) -> None:
        self.visits += 1


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def commit(engine: Engine, customer_id: str, event: DomainEvent) -> None:
    """Commit an event of a customer, and bring the read model to it."""
    commit_events(engine, Customer, customer_id, event)
    ReadModelManager(engine, Base).catch_up()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    for name in ("ann", "bob"):
        commit(engine, name, registered(name, email=f"{name}@example.com"))
    commit(engine, "ann", Visited())
    with Session(engine) as session:
        yield session


def found(session: Session, condition: Any) -> list[str]:
    return list(session.scalars(select(Customers.id).where(condition).order_by(Customers.id)))


def test_a_row_is_found_by_the_value_that_it_does_not_hold(session: Session, engine: Engine) -> None:
    assert found(session, Customers.email == "ann@example.com") == ["ann"]
    assert found(session, Customers.email != "ann@example.com") == ["bob"]
    assert found(session, Customers.email.in_(["ann@example.com", "bob@example.com", "x"])) == ["ann", "bob"]
    assert found(session, Customers.email.not_in(["ann@example.com"])) == ["bob"]
    assert found(session, Customers.email == "ANN@example.com") == []
    assert found(session, Customers.email.is_(None)) == []
    assert found(session, Customers.email == None) == []  # noqa: E711 - as SQLAlchemy has it
    other = aliased(Customers)
    assert found(session, select(other).where(other.email == Customers.email, other.id == "bob").exists()) == ["bob"]
    assert session.scalars(select(Customers).filter_by(email="ann@example.com")).one().visits == 1
    assert places(engine, "ann@example.com") == []


def test_forgetting_removes_the_hash(session: Session, engine: Engine) -> None:
    hashed = EMAIL.of("ann@example.com")
    assert hashed is not None
    assert places(engine, hashed) == ["search_hash_customers"], "no event holds it"
    forget(session, "ann", reason="asked", base=Base)
    session.commit()
    assert found(session, Customers.email == "ann@example.com") == []
    assert found(session, Customers.email.is_(None)) == ["ann"]
    assert places(engine, hashed) == []


def test_keys_are_rotated_by_a_rebuild_and_rows_are_found_meanwhile(
    session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = os.environ[VARIABLE]
    before = EMAIL.of("ann@example.com")
    monkeypatch.setenv(VARIABLE, f"{written('2027', b't')},{old}")
    assert EMAIL.of("ann@example.com") != before
    assert found(session, Customers.email == "ann@example.com") == ["ann"], "by the old key"
    session.rollback()
    EventReplayer(engine, Base).rebuild(Customers)
    monkeypatch.setenv(VARIABLE, written("2027", b"t"))
    assert found(session, Customers.email == "ann@example.com") == ["ann"]
    assert found(session, Customers.email != "ann@example.com") == ["bob"]


def test_verify_knows_hashes_of_earlier_keys(session: Session, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    session.rollback()
    assert verify(engine, Base).findings == ()
    monkeypatch.setenv(VARIABLE, f"{written('2028', b'u')},{written('2027', b't')},{os.environ[VARIABLE]}")
    commit(engine, "cid", registered("cid", email="cid@example.com"))
    found = verify(engine, Base)
    (warning,) = found.findings
    assert warning.is_warning
    assert (
        warning.message == "2 rows that were compared have hashes of an earlier search key. Rebuild it before that key is removed"
    )
    session.execute(text("UPDATE search_hash_customers SET email = 'x' WHERE id = 'ann'"))
    session.commit()
    wrong = [each for each in verify(engine, Base).findings if not each.is_warning]
    assert [each.subject for each in wrong] == ["search_hash.customers 'ann'"]
    assert "email is 'x', and the log makes it" in wrong[0].message
    EventReplayer(engine, Base).rebuild(Customers)
    assert verify(engine, Base).findings == ()


def test_hashes_differ_by_purpose_and_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SearchHash(EnvironmentKeys(VARIABLE), "search_hash.phone")
    assert other.of("x") != EMAIL.of("x") == EMAIL.of("x")
    assert EMAIL.of(None) is None
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(MasterKeyError):
        EMAIL.of("x")


@pytest.mark.parametrize(
    "compare",
    [
        lambda column: column < "a",
        lambda column: column.like("a%"),
        lambda column: column.startswith("a"),
        lambda column: "a" + column,
        lambda column: column == 7,
    ],
)
def test_what_hashes_do_not_say_is_refused(compare: Any) -> None:
    with pytest.raises(TypeError, match=r"a SearchHash compares texts|holds hashes"):
        compare(Customers.email)


def test_what_is_no_key_is_refused() -> None:
    for keys, purpose in ((ServiceKeys(lambda key: ("a", key), lambda _name, key: key), "x"), (MASTER_KEYS, "")):
        with pytest.raises(DeclarationError, match="SearchHash"):
            SearchHash(keys, purpose)  # type: ignore[arg-type]


def test_the_column_is_a_plain_text(session: Session) -> None:
    (column,) = [each for each in inspect(session.connection()).get_columns("search_hash_customers") if each["name"] == "email"]
    assert isinstance(column["type"], String)
    assert column["type"].length == 43
    assert session.scalar(select(func.length(text("email"))).select_from(Customers.__table__)) == 43
    assert render_item("type", EMAIL, None) == "sa.String(length=43)"  # type: ignore[arg-type]
