"""Planners use the index of a field of any type, for values that they know and for any values."""

# ruff: noqa: E501 - a table of queries

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, Select, create_engine, event, select, text
from sqlalchemy.orm import Session

from tests.databases import DatabasePool, configure_sqlite
from tests.read_models.bookings import START, BookingRow, Bookings, ByFloor, ByGuest, ByKindAndDay, Kind, fill

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
    prepared = text("SELECT name, cardinality(parameter_types) FROM pg_prepared_statements WHERE statement ~ :read_models")
    names = session.execute(prepared, {"read_models": "^SELECT (anon|booking_rows)"}).all()
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
    "the last in an order": (lambda s: some(s, select(Bookings).where(Bookings.price > 50).order_by(Bookings.price.desc()).limit(5)), "ix_bookings_price"),
    "a count": (lambda s: some(s, select(ByFloor).where(ByFloor.number == 15)), "ix_by 'floor'_number"),
    "a number of an own table": (lambda s: some(s, select(BookingRow).where(BookingRow.price == Decimal("10.25"))), "ix_booking_rows_price"),
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
        for _ in range(12):  # psycopg prepares it at the sixth time; five times later, a plan for any values may do
            run(session)
        generic = generic_plans(session)
        assert [index in plan for plan in generic] == [True], generic


@pytest.mark.parametrize("name", QUERIES)
def test_sqlite_finds_by_the_index(full_sqlite: Engine, name: str) -> None:
    run, index = QUERIES[name]
    with Session(full_sqlite) as session, plans(session) as found:
        run(session)
    assert [index.replace("projections_pkey", "sqlite_autoindex_projections_1") in plan for plan in found] == [True], found
