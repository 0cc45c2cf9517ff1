"""Declared indexes are there and serve the queries they were declared for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, ForeignKey, Select, inspect, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, ReadModel, ReadModelError, map_from_event
from sa_eventsource.read_models import count


class Base(DeclarativeBase):
    """The declarative base of these tests."""


class Listed(DomainEvent):
    """Something was put on a list."""

    __event_type__ = "indexes.Listed"
    status: str
    price: Decimal
    due: date
    number: int
    code: str
    owner: str


class Thing(AggregateRoot, Base):
    """What was listed."""

    __aggregate_type__ = "indexes.Thing"
    __ignored_events__ = (Listed,)


class Things(ReadModel, Base):
    """In the shared table, with an index of each kind."""

    __consistency__ = "strong"
    __indexes__ = (("owner", "price"),)

    id: Mapped[str]
    status: Mapped[str] = map_from_event(Listed, index=True)
    price: Mapped[Decimal] = map_from_event(Listed, index=True)
    due: Mapped[date] = map_from_event(Listed, index=True)
    code: Mapped[str] = map_from_event(Listed, unique=True)
    owner: Mapped[str] = map_from_event(Listed)


class PerNumber(ReadModel, Base):
    """Its key is a number."""

    __consistency__ = "strong"

    number: Mapped[int] = map_from_event(Listed, key=True)
    things: Mapped[int] = map_from_event(Listed, reduce=count())


class PerOwnerAndDay(ReadModel, Base):
    """Its key is made of two fields."""

    __consistency__ = "strong"

    owner: Mapped[str] = map_from_event(Listed, key=True)
    due: Mapped[date] = map_from_event(Listed, key=True)
    things: Mapped[int] = map_from_event(Listed, reduce=count())


class Owner(Base):
    """An ordinary table."""

    __tablename__ = "owners"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


class OwnedThing(ReadModel, Base):
    """In a table of its own, with a foreign key and a relationship."""

    __tablename__ = "owned_things"
    __consistency__ = "strong"
    __indexes__ = (("status", "price"),)

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    owner_id: Mapped[str] = map_from_event(Listed, source="owner", column=mapped_column(ForeignKey(Owner.id)))
    status: Mapped[str] = map_from_event(Listed, index=True)
    price: Mapped[Decimal] = map_from_event(Listed)
    owner: Mapped[Owner] = relationship(viewonly=True)


def listed(number: int, **values: Any) -> Listed:
    given = {
        "status": f"s-{number % 50}",
        "price": Decimal(number) / 4,
        "due": date(2026, 1 + number % 12, 1 + number % 28),
        "number": number,
        "code": f"code-{number}",
        "owner": f"owner-{number % 5}",
    }
    return Listed(**{**given, **values})


def put(session: Session, number: int, **values: Any) -> None:
    thing = Thing(id=f"t-{number}")
    thing.apply_event(listed(number, **values))
    session.add(thing)


@pytest.fixture
def filled(engine: Engine) -> Iterator[Engine]:
    """An engine with rows of all models."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Owner(id=f"owner-{number}", name=f"Owner {number}") for number in range(5))
        session.commit()
        for number in range(300):
            put(session, number)
        session.commit()
    yield engine


@pytest.fixture
def session(postgres_engine: Engine) -> Iterator[Session]:
    """A session whose planner uses an index wherever one can be used."""
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        session.add_all(Owner(id=f"owner-{number}", name=f"Owner {number}") for number in range(5))
        session.flush()
        for number in range(300):
            put(session, number)
        session.commit()
        session.execute(text("ANALYZE"))
        session.execute(text("SET enable_seqscan = off"))
        session.execute(text("SET enable_indexscan = on"))
        yield session


def plan(session: Session, statement: Select[Any]) -> str:
    compiled = statement.compile(session.connection(), compile_kwargs={"literal_binds": True})
    return "\n".join(session.scalars(text(f"EXPLAIN {str(compiled).replace(':', chr(92) + ':')}")))


QUERIES: dict[str, tuple[Select[Any], str]] = {
    "a text": (select(Things).where(Things.status == "s-7"), "ix_Things_status"),
    "a decimal": (select(Things).where(Things.price == Decimal("18.75")), "ix_Things_price"),
    "the dearest": (select(Things).where(Things.price > 50).order_by(Things.price.desc()).limit(5), "ix_Things_price"),
    "a date range": (select(Things).where(Things.due.between(date(2026, 3, 1), date(2026, 3, 3))), "ix_Things_due"),
    "a unique text": (select(Things).where(Things.code == "code-7"), "ix_Things_code"),
    "two fields": (select(Things).where(Things.owner == "owner-1", Things.price < 1), "ix_Things_owner_price"),
    "the id": (select(Things).where(Things.id == "t-7"), "projections_pkey"),
    "a number as the key": (select(PerNumber).where(PerNumber.number == 7), "ix_PerNumber_number"),
    "a key of two fields": (
        select(PerOwnerAndDay).where(PerOwnerAndDay.owner == "owner-1", PerOwnerAndDay.due == date(2026, 2, 2)),
        "ix_PerOwnerAndDay_owner_due",
    ),
    "a table of its own": (select(OwnedThing).where(OwnedThing.status == "s-7"), "ix_owned_things_status"),
}


@pytest.mark.parametrize("what", QUERIES)
def test_a_query_uses_the_index(session: Session, what: str) -> None:
    statement, index = QUERIES[what]
    assert index in plan(session, statement)
    assert session.scalars(statement).first() is not None


def test_the_index_is_still_used_when_the_statement_is_prepared(session: Session) -> None:
    """The constants of the condition stand in the statement, so that a plan made once for all values knows them too."""
    for number in range(20):
        session.scalars(select(Things).where(Things.status == f"s-{number}")).all()
    session.execute(text("SET plan_cache_mode = force_generic_plan"))
    connection: Any = session.connection().connection.driver_connection
    prepared = connection.execute("SELECT name, statement FROM pg_prepared_statements").fetchall()
    (name,) = [name for name, statement in prepared if "'status'" in statement and "'Things'" in statement and "WHERE" in statement]
    rows = connection.execute(f"EXPLAIN EXECUTE {name}('s-7')").fetchall()
    assert "ix_Things_status" in "\n".join(row[0] for row in rows)


def test_get_finds_rows_by_keys_that_are_no_text(filled: Engine) -> None:
    with Session(filled) as session:
        assert session.get_one(PerNumber, 7).things == 1
        assert session.get_one(PerOwnerAndDay, ("owner-1", date(2026, 2, 2))).things >= 1
        assert session.get(PerNumber, 10_000) is None


def test_a_value_that_is_there_already_fails_the_commit(filled: Engine) -> None:
    error = "UNIQUE" if filled.dialect.name == "sqlite" else "ix_Things_code"
    with Session(filled) as session:
        put(session, 900, code="code-7")
        with pytest.raises(ReadModelError, match=error) as caught:
            session.commit()
        assert caught.value.model == "Things"
        assert caught.value.rows == ("'t-900'",)
        session.rollback()
        assert session.get(Things, "t-900") is None
        assert session.get(Thing, "t-900") is None


def test_a_table_of_its_own_has_ordinary_indexes_and_keys(filled: Engine) -> None:
    inspector = inspect(filled)
    assert {each["name"] for each in inspector.get_indexes("owned_things")} == {
        "ix_owned_things_status",
        "ix_owned_things_status_price",
    }
    (key,) = inspector.get_foreign_keys("owned_things")
    assert (key["constrained_columns"], key["referred_table"]) == (["owner_id"], "owners")
    with Session(filled) as session:
        assert session.get_one(OwnedThing, "t-7").owner.name == "Owner 2"
        names = select(Owner.name).join(OwnedThing).where(OwnedThing.price > 74).order_by(OwnedThing.price)
        assert list(session.scalars(names)) == ["Owner 2", "Owner 3", "Owner 4"]


def test_a_row_that_breaks_a_foreign_key_fails_the_commit(postgres_engine: Engine) -> None:
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session:
        put(session, 1, owner="nobody")
        with pytest.raises(ReadModelError, match="owned_things_owner_id_fkey"):
            session.commit()


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
            code: Mapped[str] = map_from_event(Listed)

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
