"""Indexes of every type: what is created, whether planners use it for any values, what unique ones refuse; columns of own tables."""

# ruff: noqa: E501 - a table of queries

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, ForeignKey, Select, create_engine, event, func, inspect, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship

from sa_eventsource import AggregateRoot, DomainEvent, EventRecord, ReadModel, ReadModelError, map_from_event
from sa_eventsource.read_models import count, day, sum_
from tests.databases import DatabasePool, configure_sqlite


class Base(DeclarativeBase):
    """The application's declarative base."""


class Kind(enum.Enum):
    """What was booked."""

    ROOM = "room"
    HALL = "hall"
    TENT = "tent"


class Booked(DomainEvent):
    """Somebody booked something."""

    __event_type__ = "plans.Booked"
    code: str | None = None
    customer_id: str = "c-0"
    floor: int = 0
    price: Decimal = Decimal(0)
    guest: UUID = UUID(int=0)
    kind: Kind = Kind.ROOM
    ratio: float = 0.0
    paid: bool = False
    due: date = date(2024, 1, 1)


class Booking(AggregateRoot, Base):
    """The stream of one booking."""

    __aggregate_type__ = "plans.Booking"
    __ignored_events__ = (Booked,)


class Customer(Base):
    """An ordinary table of the application."""

    __tablename__ = "customers"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    bookings: Mapped[list[BookingRow]] = relationship(back_populates="customer", viewonly=True, order_by="BookingRow.id")


class Bookings(ReadModel, Base):
    """Bookings in the shared table, with indexes of all kinds."""

    __projection_name__ = "bookings"
    __consistency__ = "strong"
    __indexes__ = (("customer_id", "due"), ("kind", "floor", "price"))

    id: Mapped[str]
    code: Mapped[str | None] = map_from_event(Booked, unique=True)
    customer_id: Mapped[str] = map_from_event(Booked)
    floor: Mapped[int] = map_from_event(Booked, index=True)
    price: Mapped[Decimal] = map_from_event(Booked, index=True)
    guest: Mapped[UUID] = map_from_event(Booked, index=True)
    kind: Mapped[Kind] = map_from_event(Booked)
    ratio: Mapped[float] = map_from_event(Booked, index=True)
    paid: Mapped[bool] = map_from_event(Booked, index=True)
    due: Mapped[date] = map_from_event(Booked, index=True)
    booked_at: Mapped[datetime] = map_from_event(Booked, source="occurred_at", index=True)
    status: Mapped[str] = map_from_event(Booked, source=lambda event: "of " + event.customer_id, index=True)


class ByFloor(ReadModel, Base):
    """A key that is a number."""

    __projection_name__ = "by 'floor'"  # to be quoted
    __consistency__ = "strong"
    floor: Mapped[int] = map_from_event(key=True)
    number: Mapped[int] = map_from_event(Booked, reduce=count(), index=True)


class ByGuest(ReadModel, Base):
    """A key that is a UUID."""

    __projection_name__ = "by_guest"
    __consistency__ = "strong"
    guest: Mapped[UUID] = map_from_event(key=True)
    total: Mapped[Decimal] = map_from_event(Booked, reduce=sum_("price"))


class ByKindAndDay(ReadModel, Base):
    """A key of several fields."""

    __projection_name__ = "by_kind_and_day"
    __consistency__ = "strong"
    kind: Mapped[Kind] = map_from_event(key=True)
    day: Mapped[date] = map_from_event(key=True, source=day())
    floor: Mapped[int] = map_from_event(key=True)
    number: Mapped[int] = map_from_event(Booked, reduce=count())


class BookingRow(ReadModel, Base):
    """Bookings in a table of their own."""

    __tablename__ = "booking_rows"
    __consistency__ = "strong"
    __indexes__ = (("kind", "floor"),)

    id: Mapped[str]
    code: Mapped[str | None] = map_from_event(Booked, unique=True)
    customer_id: Mapped[str] = map_from_event(Booked, column=mapped_column(ForeignKey("customers.id")), index=True)
    price: Mapped[Decimal] = map_from_event(Booked, index=True)
    kind: Mapped[Kind] = map_from_event(Booked)
    floor: Mapped[int] = map_from_event(Booked, column=mapped_column("storey"))
    customer: Mapped[Customer] = relationship(back_populates="bookings", viewonly=True)


START = datetime(2024, 1, 1, tzinfo=UTC)


def booking(number: int, **values: Any) -> Booking:
    """Make the booking of a number."""
    made = Booking(id=f"b-{number:04}")
    given: dict[str, Any] = {"code": f"code {number}", "customer_id": f"c-{number % 50}", "floor": number % 40}
    given |= {"guest": UUID(int=number % 200), "kind": list(Kind)[number % 3], "ratio": number / 8, "paid": number % 100 == 0}
    given |= {"price": Decimal(number) / 4, "due": date(2024, 1, 1) + timedelta(days=number % 60)}
    made.apply_event(Booked(**{**given, **values}), occurred_at=START + timedelta(hours=number * 7))
    return made


def fill(engine: Engine, number: int) -> None:
    """Create the tables and some bookings."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Customer(id=f"c-{each}", name=f"Customer {each}") for each in range(50)])
        session.commit()
        session.add_all([booking(each) for each in range(number)])
        session.commit()


@pytest.fixture
def few(engine: Engine) -> Engine:
    """Ten bookings."""
    fill(engine, 10)
    return engine


# What is created.

SHARED = {
    "ix_bookings_code",
    "ix_bookings_floor",
    "ix_bookings_price",
    "ix_bookings_guest",
    "ix_bookings_ratio",
    "ix_bookings_paid",
    "ix_bookings_due",
    "ix_bookings_booked_at",
    "ix_bookings_status",
    "ix_bookings_customer_id_due",
    "ix_bookings_kind_floor_price",
    "ix_by 'floor'_number",
    "ix_by 'floor'_floor",
    "ix_by_kind_and_day_kind_day_floor",
}


def definitions(engine: Engine, table: str) -> dict[str, str]:
    """Get the statements that would make a table's indexes, by name."""
    statement = {
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = :table",
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = :table AND sql IS NOT NULL",
    }[engine.dialect.name]
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(text(statement), {"table": table})}


def test_the_shared_table_has_an_index_of_the_models_rows_for_each_that_is_declared(few: Engine) -> None:
    found = {name: made for name, made in definitions(few, "projections").items() if " WHERE " in made}
    assert set(found) == SHARED
    for name, made in found.items():
        owner = "by ''floor''" if "'" in name else "by_kind_and_day" if "day_" in name else "bookings"
        assert re.search(rf"WHERE .*projection_name.* = '{owner}'", made), made
        assert ("UNIQUE" in made) is (name == "ix_bookings_code")
    assert re.search(r"'kind'.*'floor'.*'price'", found["ix_bookings_kind_floor_price"], re.DOTALL)


def test_a_key_that_is_one_text_needs_no_index_of_its_own(few: Engine) -> None:
    assert not [name for name in definitions(few, "projections") if "by_guest" in name or name == "ix_bookings_id"]


def test_an_own_table_has_ordinary_indexes(few: Engine) -> None:
    inspector = inspect(few)
    assert [each["column_names"] for each in inspector.get_unique_constraints("booking_rows")] == [["code"]]
    found = {str(each["name"]): each["column_names"] for each in inspector.get_indexes("booking_rows") if not each["unique"]}
    assert found == {
        "ix_booking_rows_customer_id": ["customer_id"],
        "ix_booking_rows_price": ["price"],
        "ix_booking_rows_kind_floor": ["kind", "storey"],
    }


def test_a_name_that_would_be_too_long_is_shortened_and_still_its_own() -> None:
    class Fresh(DeclarativeBase):
        pass

    class Model(ReadModel, Fresh):
        __projection_name__ = "a_projection_whose_name_is_long_but_allowed"
        a_field_with_a_rather_long_name: Mapped[int] = map_from_event(Booked, source="floor", index=True)
        a_field_with_a_rather_long_name_too: Mapped[int] = map_from_event(Booked, source="floor", index=True)

    names = {
        str(index.name) for index in Fresh.metadata.tables["projections"].indexes if "rather_long" in str(index.expressions[0])
    }
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


# What the planners do with them.

BOOKINGS = 625
"""So many that no index has one value only: SQLite takes such an index or not by the order in which the indexes were made."""


@pytest.fixture(scope="module")
def full_postgres(postgres_databases: DatabasePool) -> Iterator[Engine]:
    """Some thousand rows of several models, which the planner knows."""
    with postgres_databases.database() as url:
        engine = create_engine(url)
        fill(engine, BOOKINGS)
        with engine.begin() as connection:
            connection.execute(text("ANALYZE"))
        yield engine
        engine.dispose()


@pytest.fixture(scope="module")
def full_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The same on SQLite."""
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('indexes') / 'full.db'}")
    configure_sqlite(engine)
    fill(engine, BOOKINGS)
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    yield engine
    engine.dispose()


@contextmanager
def plans(session: Session) -> Iterator[list[str]]:
    """Record how the statements will be executed."""
    found: list[str] = []
    connection = session.connection()
    ask = {"postgresql": "EXPLAIN ", "sqlite": "EXPLAIN QUERY PLAN "}[connection.dialect.name]

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        other = cursor.connection.cursor()
        other.execute(ask + statement, parameters)
        found.append("\n".join(str(line[-1]) for line in other.fetchall()))
        other.close()

    event.listen(connection, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(connection, "before_cursor_execute", explain)


def generic_plans(session: Session) -> list[str]:
    """Explain the prepared queries of read models for values that are not known."""
    prepared = text("SELECT name, cardinality(parameter_types) FROM pg_prepared_statements WHERE statement LIKE :like")
    names = session.execute(prepared, {"like": "SELECT anon%"}).all()
    session.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
    found = []
    for name, number in names:
        values = f"({', '.join(['NULL'] * number)})" if number else ""
        found.append("\n".join(session.scalars(text(f"EXPLAIN EXECUTE {name}{values}"))))
    return found


def some(session: Session, statement: Select[Any]) -> None:
    """Check that a query finds something."""
    assert session.scalars(statement).first() is not None


def got(session: Session, model: Any, key: Any) -> None:
    """Get a row by its key, from the database."""
    session.expunge_all()
    assert session.get(model, key) is not None


DAY = date(2024, 1, 10)
QUERIES: dict[str, tuple[Callable[[Session], None], str]] = {
    "a text": (lambda s: some(s, select(Bookings).where(Bookings.status == "of c-7")), "ix_bookings_status"),
    "a unique text": (lambda s: some(s, select(Bookings).where(Bookings.code == "code 7")), "ix_bookings_code"),
    "one of several texts": (lambda s: some(s, select(Bookings).where(Bookings.code.in_(["code 7", "code 8"]))), "ix_bookings_code"),
    "a Decimal": (lambda s: some(s, select(Bookings).where(Bookings.price == Decimal("10.25"))), "ix_bookings_price"),
    "more than a Decimal": (lambda s: some(s, select(Bookings).where(Bookings.price > Decimal("147.50"))), "ix_bookings_price"),
    "more than an int": (lambda s: some(s, select(Bookings).where(Bookings.price > 147)), "ix_bookings_price"),
    "an int": (lambda s: some(s, select(Bookings).where(Bookings.floor == 7)), "ix_bookings_floor"),
    "a float": (lambda s: some(s, select(Bookings).where(Bookings.ratio == 7 / 8)), "ix_bookings_ratio"),
    "a bool": (lambda s: some(s, select(Bookings).where(Bookings.paid)), "ix_bookings_paid"),
    "a UUID": (lambda s: some(s, select(Bookings).where(Bookings.guest == UUID(int=7))), "ix_bookings_guest"),
    "a date": (lambda s: some(s, select(Bookings).where(Bookings.due == DAY)), "ix_bookings_due"),
    "a range of dates": (lambda s: some(s, select(Bookings).where(Bookings.due.between(DAY, DAY + timedelta(days=2)))), "ix_bookings_due"),
    "a range of moments": (
        lambda s: some(s, select(Bookings).where(Bookings.booked_at >= START, Bookings.booked_at < START + timedelta(days=2))),
        "ix_bookings_booked_at",
    ),
    "two fields": (lambda s: some(s, select(Bookings).where(Bookings.customer_id == "c-9", Bookings.due == DAY)), "ix_bookings_customer_id_due"),
    "three fields": (
        lambda s: some(s, select(Bookings).where(Bookings.kind == Kind.ROOM, Bookings.floor == 9, Bookings.price < 9)),
        "ix_bookings_kind_floor_price",
    ),
    "the first in an order": (lambda s: some(s, select(Bookings).order_by(Bookings.booked_at).limit(3)), "ix_bookings_booked_at"),
    "a count": (lambda s: some(s, select(ByFloor).where(ByFloor.number == 15)), "ix_by 'floor'_number"),
    "get by a text": (lambda s: got(s, Bookings, "b-0007"), "projections_pkey"),
    "get by a number": (lambda s: got(s, ByFloor, 7), "ix_by 'floor'_floor"),
    "get by a UUID": (lambda s: got(s, ByGuest, UUID(int=7)), "projections_pkey"),
    "get by several": (lambda s: got(s, ByKindAndDay, (Kind.HALL, date(2024, 1, 1), 1)), "ix_by_kind_and_day_kind_day_floor"),
    "a key's first parts": (
        lambda s: some(s, select(ByKindAndDay).where(ByKindAndDay.kind == Kind.HALL, ByKindAndDay.day == date(2024, 1, 1))),
        "ix_by_kind_and_day_kind_day_floor",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
def test_postgresql_finds_by_the_index(full_postgres: Engine, name: str) -> None:
    run, index = QUERIES[name]
    with Session(full_postgres) as session:
        session.execute(text("DEALLOCATE ALL"))
        session.execute(text("SET LOCAL enable_seqscan = off"))
        with plans(session) as found:
            run(session)
        assert [index in plan for plan in found] == [True], found
        for _ in range(
            12
        ):  # from the sixth time on, psycopg prepares it; from the fifth time after that, a plan for any values may do
            run(session)
        generic = generic_plans(session)
        assert [index in plan for plan in generic] == [True], generic


@pytest.mark.parametrize("name", QUERIES)
def test_sqlite_finds_by_the_index(full_sqlite: Engine, name: str) -> None:
    run, index = QUERIES[name]
    with Session(full_sqlite) as session, plans(session) as found:
        run(session)
    assert [index.replace("projections_pkey", "sqlite_autoindex_projections_1") in plan for plan in found] == [True], found


# What a unique one refuses.


def test_a_value_that_is_there_already_refuses_the_commit_and_nothing_is_written(few: Engine) -> None:
    with Session(few) as session:
        session.add(booking(11, code="code 3"))
        with pytest.raises(ReadModelError, match=r"bookings|BookingRow") as caught:
            session.commit()
        session.rollback()
        assert "b-0011" in str(caught.value)
        assert session.scalar(select(func.count()).select_from(EventRecord)) == 10
        assert [session.scalar(select(func.count()).select_from(each)) for each in (Bookings, BookingRow)] == [10, 10]
        assert session.get_one(ByFloor, 9).number == 1
        assert session.get(ByFloor, 11) is None


def test_a_value_is_refused_within_one_flush_too(few: Engine) -> None:
    with Session(few) as session:
        session.add_all([booking(11, code="new"), booking(12, code="new")])
        with pytest.raises(ReadModelError):
            session.flush()


def test_rows_without_the_value_are_as_many_as_there_are(few: Engine) -> None:
    with Session(few) as session:
        session.add_all([booking(11, code=None), booking(12, code=None)])
        session.commit()
        assert session.scalar(select(func.count()).where(Bookings.code.is_(None))) == 2


def test_a_unique_field_of_one_model_says_nothing_of_another(engine: Engine) -> None:
    class Fresh(DeclarativeBase):
        pass

    class Stay(AggregateRoot, Fresh):
        __aggregate_type__ = "plans.Stay"
        __ignored_events__ = (Booked,)

    class One(ReadModel, Fresh):
        __consistency__ = "strong"
        code: Mapped[str] = map_from_event(Booked, unique=True)

    class Other(ReadModel, Fresh):
        __consistency__ = "strong"
        code: Mapped[str] = map_from_event(Booked, source=lambda event: event.customer_id + "", unique=True)

    Fresh.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(stay := Stay(id="s-1"))
        stay.apply_event(Booked(code="x", customer_id="x"))
        session.commit()
        assert session.get_one(One, "s-1").code == session.get_one(Other, "s-1").code == "x"


# Own tables beside the application's.


def test_relationships_lead_to_and_from_an_own_table(few: Engine) -> None:
    with Session(few) as session:
        session.add(booking(51))
        session.commit()
        assert session.get_one(BookingRow, "b-0051").customer.name == "Customer 1"
        assert [each.id for each in session.get_one(Customer, "c-1").bookings] == ["b-0001", "b-0051"]
        eager = select(BookingRow).options(joinedload(BookingRow.customer)).where(BookingRow.customer.has(name="Customer 3"))
        assert [each.customer.name for each in session.scalars(eager)] == ["Customer 3"]


def test_read_models_are_joined_with_each_other_and_with_tables(few: Engine) -> None:
    statement = (
        select(Customer.name, BookingRow.price, ByFloor.number, Bookings.kind)
        .join(BookingRow.customer)
        .join(Bookings, Bookings.id == BookingRow.id)
        .join(ByFloor, ByFloor.floor == BookingRow.floor)
        .where(ByFloor.floor > 7)
        .order_by(Bookings.price.desc())
    )
    with Session(few) as session:
        assert [tuple(row) for row in session.execute(statement)] == [
            ("Customer 9", Decimal("2.25"), 1, Kind.ROOM),
            ("Customer 8", Decimal("2.00"), 1, Kind.TENT),
        ]


def test_a_foreign_key_that_leads_nowhere_refuses_the_commit(postgres_engine: Engine) -> None:
    fill(postgres_engine, 1)
    with Session(postgres_engine) as session:
        session.add(booking(1, customer_id="nobody"))
        with pytest.raises(ReadModelError, match=r"BookingRow.*booking_rows_customer_id_fkey"):
            session.commit()
        session.rollback()
        assert session.scalar(select(func.count()).select_from(EventRecord)) == 1
        assert session.scalar(select(func.count()).select_from(Bookings)) == 1


def test_a_mixins_column_is_made_for_each_table_that_takes_it(engine: Engine) -> None:
    class Fresh(DeclarativeBase):
        pass

    class Stay(AggregateRoot, Fresh):
        __aggregate_type__ = "plans.MixedStay"
        __ignored_events__ = (Booked,)

    class OfCustomer:
        customer_id: Mapped[str] = map_from_event(Booked, column=mapped_column(ForeignKey("owners.id")), index=True)

    class Owner(Fresh):
        __tablename__ = "owners"
        id: Mapped[str] = mapped_column(primary_key=True)

    class One(OfCustomer, ReadModel, Fresh):
        __tablename__ = "ones"
        __consistency__ = "strong"

    class Other(OfCustomer, ReadModel, Fresh):
        __tablename__ = "others"
        __consistency__ = "strong"
        floor: Mapped[int] = map_from_event(Booked)

    Fresh.metadata.create_all(engine)
    for name in ("ones", "others"):
        assert [each["column_names"] for each in inspect(engine).get_indexes(name)] == [["customer_id"]]
        assert [each["referred_table"] for each in inspect(engine).get_foreign_keys(name)] == ["owners"]
    with Session(engine) as session:
        session.add(Owner(id="c-0"))
        session.flush()
        session.add(stay := Stay(id="s-1"))
        stay.apply_event(Booked(floor=3))
        session.commit()
        assert (session.get_one(One, "s-1").customer_id, session.get_one(Other, "s-1").floor) == ("c-0", 3)


def test_indexes_and_the_bases_table_arguments_go_together(engine: Engine) -> None:
    class Fresh(DeclarativeBase):
        __table_args__ = {"comment": "of all tables"}

    class Other(ReadModel, Fresh):
        __tablename__ = "others"
        __indexes__ = (("floor", "price"),)
        floor: Mapped[int] = map_from_event(Booked)
        price: Mapped[Decimal] = map_from_event(Booked)

    Fresh.metadata.create_all(engine)
    assert Fresh.metadata.tables["others"].comment == "of all tables"
    assert [each["column_names"] for each in inspect(engine).get_indexes("others")] == [["floor", "price"]]
