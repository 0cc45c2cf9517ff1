"""What a comparison says of logs that nobody tampered with: tails, heads of any age, moved logs, rewritten and forgotten events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, create_engine, select, text
from sqlalchemy.orm import Session

from sa_eventsource import export_events, import_events, verify
from sa_eventsource.integrity import Head, newest_head, proofs_on, recorded_rewriting, tree_growth
from sa_eventsource.verification import ProofOptions, Verification
from tests.databases import DatabasePool
from tests.integrity.proven_log import SIGNING_KEY, Base, fill, grow, pay_in, tables_of_log
from tests.integrity.test_tree_growth import leaves_of, tree_of


def head_of_log(engine: Engine) -> Head:
    with Session(engine) as session:
        found = newest_head(session, base=Base)
    assert found is not None
    return found


def compare(engine: Engine, *heads: Head, **options: Any) -> Verification:
    return verify(engine, Base, proofs=ProofOptions(heads=heads, **options))


def said(found: Verification) -> list[str]:
    return [str(each) for each in found.findings if each.check == "proofs"]


def test_a_log_fits_its_heads_old_and_new(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_growth, "BATCH", 40)
    heads = []
    for number in range(3):
        with Session(engine) as session:
            pay_in(session, f"account-{number}", *range(100))
            session.commit()
        grow(engine)
        heads.append(head_of_log(engine))
    with Session(engine) as session:
        pay_in(session, "new", 1, 2)
        session.commit()
    found = compare(engine, *heads, public_keys=SIGNING_KEY.public_keys())
    assert said(found) == []
    assert (found.covered, found.uncovered) == (300, 2)


def test_without_a_head_it_says_what_that_is_worth(engine: Engine) -> None:
    fill(engine, 10)
    grow(engine)
    found = compare(engine)
    assert found.is_sound
    assert said(found) == [
        "proofs: merkle_tree: no head was given that was kept elsewhere: whoever can write to log and tree could have replaced both"
    ]


def test_without_proofs_nothing_is_compared(engine: Engine) -> None:
    fill(engine, 3)
    assert (verify(engine, Base).covered, verify(engine, Base).findings) == (None, ())


def test_a_head_of_another_log_does_not_fit(engine: Engine) -> None:
    fill(engine, 10)
    grow(engine)
    head = head_of_log(engine)
    assert said(compare(engine, replace(head, root=b"x" * 32))) == [
        "proofs: the head of 10 events: the log up to there is another one: it was altered together with the tree"
    ]
    assert said(compare(engine, replace(head, tree_size=11))) == [
        "proofs: the head of 11 events: the tree has 10 events: events were cut off, or the head is of another log"
    ]


def test_who_signed_is_checked(engine: Engine) -> None:
    fill(engine, 3)
    grow(engine)
    head = head_of_log(engine)
    others = {"first": b"k" * 32}
    reason = "the signature is not one of the key 'first'"
    assert said(compare(engine, head, public_keys=others)) == 2 * [f"proofs: the head of 3 events: {reason}"]
    unsigned = replace(head, key_id=None, signature=None)
    assert said(compare(engine, unsigned, public_keys=SIGNING_KEY.public_keys())) == [
        "proofs: the head of 3 events: it is not signed"
    ]


def test_a_log_that_was_exported_and_imported_fits_its_old_heads(postgres_engine: Engine, postgres_databases: DatabasePool) -> None:
    with Session(postgres_engine) as session:
        pay_in(session, "rolled back", 1)  # leaves a gap in the positions
        session.flush()
        session.rollback()
    fill(postgres_engine, 50)
    grow(postgres_engine)
    head = head_of_log(postgres_engine)
    with postgres_engine.connect() as connection:
        lines = list(export_events(connection, tables_of_log().events))
    with postgres_databases.database(Base.metadata) as url:
        there = create_engine(url)
        with there.begin() as connection:
            connection.execute(text("SELECT setval(pg_get_serial_sequence('events', 'position'), 1000)"))
            import_events(connection, tables_of_log().events, lines)
        grow(there)
        assert compare(there, head, is_moved=True).is_sound
        assert [each for _, each in tree_of(there)] == [each for _, each in leaves_of(postgres_engine)]
        (moved,) = said(compare(there, head))
        assert "at other positions" in moved
        there.dispose()


def ids_of(engine: Engine) -> Sequence[UUID]:
    events = tables_of_log().events
    with engine.connect() as connection:
        return list(connection.scalars(select(events.c.event_id).order_by(events.c.position)))


def rewrite(engine: Engine, event_ids: Sequence[UUID], *, note: str, is_recorded: bool = True) -> int:
    """Rewrite events through the switch, as anonymising does; return how many records there are then."""
    change = "UPDATE events SET event_data = CAST(:payload AS jsonb) WHERE event_id = :id"
    tables = tables_of_log()
    with engine.begin() as connection:
        payloads = rewritten_payloads(connection, event_ids, note)
        reason = "asked by the customer"
        with recorded_rewriting(connection, tables, payloads, reason=reason) if is_recorded else nullcontext():
            connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
            connection.execute(text(change), [{"id": event_id, "payload": payload} for event_id, payload in payloads.items()])
        return int(connection.execute(text("SELECT count(*) FROM rewritten_events")).scalar_one())


def rewritten_payloads(connection: Connection, event_ids: Sequence[UUID], note: str) -> dict[UUID, str]:
    """Give the payloads that events have with another note, by their ids."""
    found = connection.execute(text("SELECT event_id, event_data FROM events WHERE event_id = ANY(:ids)"), {"ids": list(event_ids)})
    return {event_id: json.dumps({**payload, "note": note}) for event_id, payload in found}


def test_what_was_rewritten_on_purpose_is_on_record(postgres_engine: Engine) -> None:
    fill(postgres_engine, 10)
    grow(postgres_engine)
    head, ids = head_of_log(postgres_engine), ids_of(postgres_engine)
    with Session(postgres_engine) as session:
        pay_in(session, "new", 1)
        session.commit()
    newest = ids_of(postgres_engine)[-1]
    assert rewrite(postgres_engine, [*ids[2:4], newest], note="once") == 2, "the newest is not in the tree yet"
    assert rewrite(postgres_engine, [ids[3]], note="again") == 3
    assert rewrite(postgres_engine, [ids[3]], note="again") == 3, "nothing changed"
    grow(postgres_engine)
    found = compare(postgres_engine, head, head_of_log(postgres_engine), public_keys=SIGNING_KEY.public_keys())
    assert found.is_sound
    assert said(found) == [f"proofs: rewritten_events: 2 events rewritten on purpose, on record: {ids[2]}, {ids[3]}"]
    (unsigned,) = said(compare(postgres_engine, head))
    assert unsigned.endswith("nothing signed says so: whoever can write to the table could have done it")


def test_what_was_rewritten_without_a_record_is_altered(postgres_engine: Engine) -> None:
    fill(postgres_engine, 10)
    grow(postgres_engine)
    head, ids = head_of_log(postgres_engine), ids_of(postgres_engine)
    rewrite(postgres_engine, ids[2:3], note="once", is_recorded=False)
    name = f"event {ids[2]} at position {_position(postgres_engine, ids[2])}"
    assert said(compare(postgres_engine, head)) == [f"proofs: {name}: it was altered after it had been put into the tree"]


def test_a_record_that_nobody_signed_counts_for_nothing(postgres_engine: Engine) -> None:
    fill(postgres_engine, 10)
    grow(postgres_engine)
    head, ids = head_of_log(postgres_engine), ids_of(postgres_engine)
    rewrite(postgres_engine, ids[2:3], note="once")
    with postgres_engine.begin() as connection:
        connection.execute(text("UPDATE rewritten_events SET reason = 'another'"))
    (found,) = said(compare(postgres_engine, head, public_keys=SIGNING_KEY.public_keys()))
    assert found.endswith("counts for nothing: the signature is not one of the key 'first'")


def test_growing_waits_for_who_rewrites(postgres_engine: Engine) -> None:
    fill(postgres_engine, 10)
    ids = ids_of(postgres_engine)
    growth = tree_growth.TreeGrowth(proofs_on(tables_of_log()))
    with postgres_engine.connect() as connection, Session(postgres_engine) as session:
        with recorded_rewriting(connection, tables_of_log(), rewritten_payloads(connection, ids, ""), reason="asked"):
            connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = 'on'"))
            connection.execute(text("UPDATE events SET event_data = jsonb_set(event_data, '{note}', '\"\"')"))
            assert growth.grow(session) == 0
            assert growth.is_waiting
        assert connection.execute(text("SELECT count(*) FROM rewritten_events")).scalar_one() == 0
        connection.commit()
        assert growth.grow(session) == 10
    assert compare(postgres_engine, head_of_log(postgres_engine)).is_sound


def _position(engine: Engine, event_id: UUID) -> int:
    events = tables_of_log().events
    with engine.connect() as connection:
        return int(connection.execute(select(events.c.position).where(events.c.event_id == event_id)).scalar_one())
