"""What was rewritten on purpose became what was asked for, and nothing else, and stays that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from sa_eventsource.exceptions import RewritingError
from tests.integrity.proven_log import SIGNING_KEY, fill, grow
from tests.integrity.tampering import may_tamper
from tests.integrity.test_comparison import compare, head_of_log, ids_of, rewrite, said

ANOTHER_AMOUNT = "NEW.event_data = jsonb_set(NEW.event_data, '{amount}', '999999')"
ANOTHER_TIME = "NEW.occurred_at = '2001-01-01'"
UNDONE = "it was rewritten on purpose, and is not what it became last: it was altered since, or an earlier state was put back"


def payload(engine: Engine, event_id: UUID) -> str:
    with engine.connect() as connection:
        return str(connection.scalar(text("SELECT event_data::text FROM events WHERE event_id = :id"), {"id": event_id}))


def put_back(engine: Engine, event_id: UUID, data: str) -> None:
    with engine.begin() as connection:
        may_tamper(connection)
        connection.execute(
            text("UPDATE events SET event_data = CAST(:d AS jsonb) WHERE event_id = :id"), {"d": data, "id": event_id}
        )


def findings(engine: Engine, ids: Sequence[UUID]) -> list[str]:
    """What a comparison with the newest head and the public key says, except for the list of what was rewritten."""
    assert ids
    return [
        each.partition(": ")[2].partition(": ")[2]
        for each in said(compare(engine, head_of_log(engine), public_keys=SIGNING_KEY.public_keys()))
        if "on record" not in each
    ]


@pytest.fixture
def ids(postgres_engine: Engine) -> Sequence[UUID]:
    fill(postgres_engine, 10)
    grow(postgres_engine)
    return ids_of(postgres_engine)


@pytest.mark.parametrize("change", [ANOTHER_AMOUNT, ANOTHER_TIME], ids=["payload", "time"])
@pytest.mark.parametrize("moment", ["BEFORE", "AFTER"])
def test_what_a_trigger_changes_beside_it_is_refused(
    postgres_engine: Engine, ids: Sequence[UUID], change: str, moment: str
) -> None:
    body = f"{change};" if moment == "BEFORE" else "NULL;"
    if moment == "AFTER":
        column, _, value = change.removeprefix("NEW.").replace("NEW.", "").partition(" = ")
        body = f"IF pg_trigger_depth() = 1 THEN UPDATE events SET {column} = {value} WHERE event_id = NEW.event_id; END IF;"
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$")
        connection.exec_driver_sql(f"CREATE TRIGGER zz {moment} UPDATE ON events FOR EACH ROW EXECUTE FUNCTION more()")
    before = payload(postgres_engine, ids[2])
    with pytest.raises(RewritingError, match="is stored otherwise than it was to be") as caught:
        rewrite(postgres_engine, ids[2:3], note="gone")
    assert caught.value.event_id == ids[2]
    assert payload(postgres_engine, ids[2]) == before


def test_an_event_that_is_not_rewritten_though_it_was_to_be_is_refused(postgres_engine: Engine, ids: Sequence[UUID]) -> None:
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$")
        connection.exec_driver_sql("CREATE TRIGGER zz BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION no()")
    with pytest.raises(RewritingError):
        rewrite(postgres_engine, ids[2:3], note="gone")


def test_an_event_that_was_rewritten_does_not_become_again_what_it_was(postgres_engine: Engine, ids: Sequence[UUID]) -> None:
    first = payload(postgres_engine, ids[2])
    rewrite(postgres_engine, ids[2:3], note="gone")
    second = payload(postgres_engine, ids[2])
    assert findings(postgres_engine, ids) == []
    put_back(postgres_engine, ids[2], first)
    assert findings(postgres_engine, ids) == [UNDONE]
    put_back(postgres_engine, ids[2], second)
    rewrite(postgres_engine, ids[2:3], note="later")
    third = payload(postgres_engine, ids[2])
    for former in (first, second):
        put_back(postgres_engine, ids[2], former)
        assert findings(postgres_engine, ids) == [UNDONE]
    put_back(postgres_engine, ids[2], third)
    assert findings(postgres_engine, ids) == []


def test_an_event_may_be_rewritten_there_and_back(postgres_engine: Engine, ids: Sequence[UUID]) -> None:
    note = json.loads(payload(postgres_engine, ids[2]))["note"]
    states = []
    for each in ("gone", note, "gone", note, "last"):
        rewrite(postgres_engine, ids[2:3], note=each)
        states.append(payload(postgres_engine, ids[2]))
        assert findings(postgres_engine, ids) == []
    put_back(postgres_engine, ids[2], states[0])
    assert findings(postgres_engine, ids) == [UNDONE]


def test_a_record_of_which_the_signature_was_taken_does_not_let_the_former_state_pass(
    postgres_engine: Engine, ids: Sequence[UUID]
) -> None:
    first = payload(postgres_engine, ids[2])
    rewrite(postgres_engine, ids[2:3], note="gone")
    put_back(postgres_engine, ids[2], first)
    with postgres_engine.begin() as connection:
        connection.exec_driver_sql("UPDATE rewritten_events SET signature = NULL")
    (found,) = findings(postgres_engine, ids)
    assert "the record that it was rewritten on purpose counts for nothing: it is not signed" in found


def test_what_was_altered_before_it_was_rewritten_is_found(postgres_engine: Engine, ids: Sequence[UUID]) -> None:
    data = json.loads(payload(postgres_engine, ids[2]))
    put_back(postgres_engine, ids[2], json.dumps({**data, "amount": 999}))
    rewrite(postgres_engine, ids[2:3], note="gone")
    assert len(findings(postgres_engine, ids)) == 1
    put_back(postgres_engine, ids[2], json.dumps(data))
    assert findings(postgres_engine, ids) == [UNDONE]
