"""Verifying finds partitions that are missing, and what no constraint of a partitioned log refuses."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, text

from sa_eventsource import EventSourceOptions, verify
from sa_eventsource.mapping import create_statements, tables_on
from tests.partitions.ferries import EVENTS, Base, book, in_two_partitions, partition_of


@pytest.fixture
def ferries(postgres_engine: Engine) -> Engine:
    """A log with four partitions, and a ferry in it."""
    Base.metadata.create_all(postgres_engine)
    book(postgres_engine, "f-1", 1)
    return postgres_engine


def found(engine: Engine) -> list[str]:
    return [str(each) for each in verify(engine, Base).findings]


def execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for each in statements:
            connection.execute(text(each))


def test_a_partition_that_is_missing_is_found(ferries: Engine) -> None:
    own = partition_of(ferries, "f-1")
    other = next(f"events_p{number}" for number in range(4) if f"events_p{number}" != own)
    execute(ferries, f"ALTER TABLE events DETACH PARTITION {other}")
    (finding,) = found(ferries)
    assert finding.startswith(f"partitions: events: of its 4 partitions, {other[-1]} is missing")
    assert "alembic revision --autogenerate" in finding


@pytest.mark.parametrize(
    ("there", "said"),
    [(None, "the table has no partitions, and 4 by"), (7, "the table has 7 partitions by HASH (aggregate_id), and 4 by")],
)
def test_another_number_of_partitions_is_found(postgres_engine: Engine, there: int | None, said: str) -> None:
    tables_on(MetaData(), EventSourceOptions(partitions=there)).events.create(postgres_engine)
    Base.metadata.create_all(postgres_engine)
    assert any(said in each for each in found(postgres_engine))


@pytest.mark.parametrize("name", ["sa_eventsource_immutable", "sa_eventsource_immutable_truncate"])
def test_a_trigger_that_is_disabled_on_a_partition_is_found_and_put_right(ferries: Engine, name: str) -> None:
    own = partition_of(ferries, "f-1")
    execute(ferries, f"ALTER TABLE {own} DISABLE TRIGGER {name}")
    (finding,) = found(ferries)
    assert f"trigger {name} on the partition {own}, which refuses " in finding
    with ferries.begin() as connection:
        for statement in create_statements(EVENTS, "postgresql"):
            connection.execute(statement)
    assert found(ferries) == []


def test_a_sequence_that_was_set_back_is_found(ferries: Engine) -> None:
    in_two_partitions(ferries)
    execute(ferries, "SELECT setval(pg_get_serial_sequence('events', 'position'), 1)")
    (finding,) = found(ferries)
    assert "stands at 1, and the last event has position" in finding
    book(ferries, "f-0", 1)
    assert any("position 2: 2 events have it" in each for each in found(ferries))


def test_what_rewrites_appended_events_in_a_partition_is_found(ferries: Engine) -> None:
    execute(
        ferries,
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.event_type := ''X''; RETURN NEW; END'",
        "CREATE TRIGGER rewrites BEFORE INSERT ON events_p1 FOR EACH ROW EXECUTE FUNCTION shout()",
    )
    (finding,) = found(ferries)
    assert "trigger rewrites may change or leave out what is appended" in finding
