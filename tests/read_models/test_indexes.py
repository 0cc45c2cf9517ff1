"""Indexes of every type: what is created, what unique ones refuse; columns of own tables."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, ForeignKey, func, inspect, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column

from sa_eventsource import EventRecord, EventSourceOptions, ReadModel, ReadModelError, map_from_event
from tests.read_models.bookings import AnyBooking, Booked, BookingRow, Bookings, ByFloor, Customer, Kind, booking, fill


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


def test_the_shared_table_can_do_without_its_gin_index(postgres_engine: Engine) -> None:
    class Full(DeclarativeBase):
        pass

    class Lean(DeclarativeBase):
        __eventsource__ = EventSourceOptions(projections_gin=False)

    def gin_indexes() -> list[str]:
        with postgres_engine.connect() as connection:
            query = "SELECT indexname FROM pg_indexes WHERE tablename = 'projections' AND indexdef LIKE '%USING gin%'"
            return list(connection.scalars(text(query)))

    for base in (Full, Lean):

        class Codes(ReadModel, base):  # type: ignore[misc, valid-type]
            __projection_name__ = "gin.codes"
            code: Mapped[str] = map_from_event(Booked)

    Full.metadata.create_all(postgres_engine)
    assert gin_indexes() == ["ix_projections_data"]
    with postgres_engine.connect() as connection:
        changes = compare_metadata(MigrationContext.configure(connection), Lean.metadata)
    names = [(each[0], each[1].name) for each in changes]
    # Of partitions, Alembic is taught by sa_eventsource.migrations.
    assert [each for each in names if not each[1].startswith("events_p")] == [("remove_index", "ix_projections_data")]
    Full.metadata.drop_all(postgres_engine)
    Lean.metadata.create_all(postgres_engine)
    assert gin_indexes() == []


# What a unique one refuses.


def test_a_value_that_is_there_already_refuses_the_commit_and_nothing_is_written(few: Engine) -> None:
    with Session(few) as session:
        session.add(booking(11, code="code 3"))
        with pytest.raises(ReadModelError, match=r"bookings|BookingRow") as caught:
            session.commit()
        session.rollback()
        assert caught.value.rows == ("'b-0011'",)
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

    class Stay(AnyBooking, Fresh):
        __aggregate_type__ = "indexes.Stay"

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

    class Stay(AnyBooking, Fresh):
        __aggregate_type__ = "indexes.MixedStay"

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
