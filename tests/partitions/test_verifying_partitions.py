"""Verifying finds partitions that are missing, and what no constraint of a partitioned log refuses."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData

from sa_eventsource import EventSourceOptions, verify
from sa_eventsource.mapping import create_statements, tables_on
from tests.committing import execute
from tests.partitions.accounts import EVENTS, Base, deposit, in_two_partitions, partition_of


@pytest.fixture
def accounts(postgres_engine: Engine) -> Engine:
    """A log with four partitions, and an account in it."""
    deposit(postgres_engine, "a-1", 1)
    return postgres_engine


def found(engine: Engine) -> list[str]:
    return [str(each) for each in verify(engine, Base).findings]


def test_a_partition_that_is_missing_is_found(accounts: Engine) -> None:
    own = partition_of(accounts, "a-1")
    other = next(f"events_p{number}" for number in range(4) if f"events_p{number}" != own)
    execute(accounts, f"ALTER TABLE events DETACH PARTITION {other}")
    (finding,) = found(accounts)
    assert finding.startswith(f"partitions: events: of its 4 partitions, {other[-1]} is missing")
    assert "alembic revision --autogenerate" in finding


@pytest.mark.parametrize(
    ("there", "said"),
    [(None, "the table has no partitions, and 4 by"), (7, "the table has 7 partitions by HASH (aggregate_id), and 4 by")],
)
def test_another_number_of_partitions_is_found(postgres_engine: Engine, there: int | None, said: str) -> None:
    EVENTS.drop(postgres_engine)
    tables_on(MetaData(), EventSourceOptions(partitions=there)).events.create(postgres_engine)
    assert any(said in each for each in found(postgres_engine))


@pytest.mark.parametrize("name", ["sa_eventsource_immutable", "sa_eventsource_immutable_truncate"])
def test_a_trigger_that_is_disabled_on_a_partition_is_found_and_put_right(accounts: Engine, name: str) -> None:
    own = partition_of(accounts, "a-1")
    execute(accounts, f"ALTER TABLE {own} DISABLE TRIGGER {name}")
    (finding,) = found(accounts)
    assert f"trigger {name} on the partition {own}, which refuses " in finding
    with accounts.begin() as connection:
        for statement in create_statements(EVENTS, "postgresql"):
            connection.execute(statement)
    assert found(accounts) == []


def test_a_sequence_that_was_set_back_is_found(accounts: Engine) -> None:
    in_two_partitions(accounts)
    execute(accounts, "SELECT setval(pg_get_serial_sequence('events', 'position'), 1)")
    (finding,) = found(accounts)
    assert "stands at 1, and the last event has position" in finding
    deposit(accounts, "a-0", 1)
    assert any("position 2: 2 events have it" in each for each in found(accounts))


def test_what_rewrites_appended_events_in_a_partition_is_found(accounts: Engine) -> None:
    execute(
        accounts,
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.event_type := ''X''; RETURN NEW; END'",
        "CREATE TRIGGER rewrites BEFORE INSERT ON events_p1 FOR EACH ROW EXECUTE FUNCTION shout()",
    )
    (finding,) = found(accounts)
    assert "trigger rewrites may change or leave out what is appended" in finding
