"""Verifying finds a log that is no longer guarded, or whose inserts are not what they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, MetaData, create_engine, make_url, text

from sa_eventsource import verify
from tests import PARTITIONS
from tests.trigger_damage import POSTGRESQL, SQLITE, damage
from tests.verification.damage import Base, sell


def found(engine: Engine) -> list[str]:
    return [str(each) for each in verify(engine, Base).findings if each.check == "immutability"]


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.mark.parametrize("name", POSTGRESQL)
def test_damaged_triggers_on_postgresql_are_found(postgres_engine: Engine, name: str) -> None:
    sell(postgres_engine, "t-1", 1)
    assert found(postgres_engine) == []
    damage(postgres_engine, name)
    (first, *_) = found(postgres_engine)
    assert first.startswith("immutability: events: ")
    assert "sa_eventsource_immutable" in first
    assert "op.create_event_immutability()" in first
    assert not verify(postgres_engine, Base).is_sound


@pytest.mark.parametrize("name", SQLITE)
def test_damaged_triggers_on_sqlite_are_found(sqlite_engine: Engine, name: str) -> None:
    sell(sqlite_engine, "t-1", 1)
    assert found(sqlite_engine) == []
    damage(sqlite_engine, name)
    (first,) = found(sqlite_engine)
    assert first.startswith("immutability: events: trigger sa_eventsource_immutable_events_")


def test_each_fault_is_named(postgres_engine: Engine) -> None:
    damage(postgres_engine, "the trigger disabled")
    damage(postgres_engine, "the trigger on TRUNCATE dropped")
    disabled, missing = (each for each in found(postgres_engine) if " on the partition " not in each)
    assert "trigger sa_eventsource_immutable, which refuses UPDATE and DELETE, is disabled" in disabled
    assert "trigger sa_eventsource_immutable_truncate, which refuses TRUNCATE, is missing" in missing


def test_an_emptied_function_is_named(postgres_engine: Engine) -> None:
    damage(postgres_engine, "the function emptied")
    named = [each.split(": ")[2].split(",")[0] for each in found(postgres_engine)]
    assert named == ["function events_immutable()"] * 2 * (1 + (PARTITIONS or 0))


@pytest.fixture
def role(postgres_engine: Engine) -> Iterator[str]:
    """A role that the test may set parameters for."""
    with postgres_engine.begin() as connection:
        name = f"role_{connection.scalar(text('SELECT current_database()'))}"
        connection.execute(text(f"CREATE ROLE {name}"))
    yield name
    with postgres_engine.begin() as connection:
        connection.execute(text(f"DROP ROLE {name}"))


@pytest.mark.parametrize("setting", ["session_replication_role = replica", "sa_eventsource.allow_event_changes = on"])
def test_a_setting_that_opens_the_log_to_a_role_is_found(postgres_engine: Engine, role: str, setting: str) -> None:
    with postgres_engine.begin() as connection:
        here = connection.scalar(text("SELECT current_database()"))  # for all databases, other tests would find it too
        connection.execute(text(f"ALTER ROLE {role} IN DATABASE {here} SET {setting}"))
    (message,) = found(postgres_engine)
    assert message.startswith(f"immutability: {role}: ")
    assert setting.replace(" ", "") in message


@pytest.mark.parametrize("setting", ["session_replication_role=replica", "sa_eventsource.allow_event_changes=on"])
def test_a_setting_of_the_session_itself_is_found(postgres_engine: Engine, setting: str) -> None:
    url = make_url(postgres_engine.url).update_query_dict({"options": f"-c {setting}"})
    engine = create_engine(url)
    assert [each.split(": ")[1] for each in found(engine)] == [setting.split("=", maxsplit=1)[0]]
    engine.dispose()


def test_what_may_rewrite_appended_events_is_a_warning(postgres_engine: Engine) -> None:
    with postgres_engine.begin() as connection:
        connection.execute(
            text("CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.event_type := ''X''; RETURN NEW; END'")
        )
        connection.execute(text("CREATE TRIGGER notes AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION shout()"))
    assert found(postgres_engine) == []
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE TRIGGER rewrites BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION shout()"))
        connection.execute(text("CREATE RULE swallow AS ON INSERT TO events WHERE NEW.version = 99 DO INSTEAD NOTHING"))
    verification = verify(postgres_engine, Base)
    named = [each.message.split(" may ")[0] for each in verification.findings]
    assert named == ["rule swallow", "trigger rewrites"]
    assert verification.is_sound, "it may be meant: a warning"


_CONSTRAINTS = ["aggregate_type, aggregate_id, version", "position", "event_id"]
_OF_PARTITIONS = [_CONSTRAINTS[0], "event_id, aggregate_id"]


@pytest.mark.parametrize("columns", _CONSTRAINTS if PARTITIONS is None else _OF_PARTITIONS)
def test_a_constraint_of_the_log_that_is_missing_is_found(postgres_engine: Engine, columns: str) -> None:
    name = "events_pkey" if columns.startswith("event_id") else f"events_{columns.replace(', ', '_')}_key"
    assert verify(postgres_engine, Base).findings == ()
    with postgres_engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE events DROP CONSTRAINT {name}"))
    (finding,) = verify(postgres_engine, Base).findings
    assert str(finding).startswith(f"constraints: events: the unique constraint on {columns} is missing")
    assert not finding.is_warning
