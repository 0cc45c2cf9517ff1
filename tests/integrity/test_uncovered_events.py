"""Events that no tree would ever cover are found: those without a position, or with one that another event has."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from sa_eventsource import verify
from tests.integrity.proven_log import SIGNING_KEY, Base, fill, grow
from tests.integrity.tampering import may_tamper
from tests.integrity.test_comparison import compare, head_of_log, said

COLUMNS = "event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at, position"


def forge(engine: Engine, position: str) -> str:
    """Put an event behind those of a stream, at a position that no append would give it; return its id."""
    with engine.begin() as connection:
        may_tamper(connection)
        connection.execute(text("ALTER TABLE events ALTER position DROP IDENTITY, ALTER position DROP NOT NULL"))
        connection.execute(text("ALTER TABLE events DROP CONSTRAINT IF EXISTS events_position_key"))
        connection.execute(text("DROP INDEX IF EXISTS ix_events_position"))
        made = connection.execute(
            text(
                f"INSERT INTO events ({COLUMNS}) SELECT gen_random_uuid(), aggregate_type, aggregate_id, version + 1, event_type, "
                f"event_data, occurred_at, {position} FROM events WHERE aggregate_id = 'account-0' ORDER BY version DESC LIMIT 1 "
                "RETURNING event_id"
            )
        )
        return str(made.scalar_one())


@pytest.mark.parametrize("further", [0, 3])
def test_an_event_without_a_position_is_found(postgres_engine: Engine, further: int) -> None:
    fill(postgres_engine, 10)
    grow(postgres_engine)
    head = head_of_log(postgres_engine)
    event_id = forge(postgres_engine, "NULL::bigint")
    if further:
        with postgres_engine.begin() as connection:
            may_tamper(connection)
            connection.execute(text("DELETE FROM events WHERE position >= 8"))
    found = said(compare(postgres_engine, head, public_keys=SIGNING_KEY.public_keys()))
    message = f"proofs: event {event_id}: it has no position: no tree covers it, and nobody who follows the log gets it"
    assert found[-1] == message
    assert len(found) == 1 + further


def test_an_event_at_the_last_position_of_another_is_found(postgres_engine: Engine) -> None:
    fill(postgres_engine, 10)
    grow(postgres_engine)
    head = head_of_log(postgres_engine)
    forge(postgres_engine, "(SELECT max(position) FROM events)")
    found = compare(postgres_engine, head, public_keys=SIGNING_KEY.public_keys())
    assert any("lies before its end" in each for each in said(found))
    assert found.uncovered == 0


def test_a_position_that_may_be_missing_or_given_is_found(postgres_engine: Engine) -> None:
    def constraints() -> list[str]:
        return [str(each) for each in verify(postgres_engine, Base).findings if each.check == "constraints"]

    assert constraints() == []
    with postgres_engine.begin() as connection:
        connection.execute(text("ALTER TABLE events ALTER position DROP IDENTITY, ALTER position DROP NOT NULL"))
    (found,) = constraints()
    assert found.startswith("constraints: events: the column position may be NULL and is no identity: ")
    with postgres_engine.begin() as connection:
        connection.execute(text("ALTER TABLE events ALTER position SET NOT NULL"))
    (found,) = constraints()
    assert "the column position is no identity: " in found
