"""Archives that were altered are found, and proofs hold over those that were not."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sa_eventsource import ArchiveError, ProofOptions, newest_head, prove, unarchive
from sa_eventsource.mapping.immutability import SWITCH, create_statements, drop_statements
from sa_eventsource.verification import verify
from tests.ending.tills import ARCHIVED, EVENTS, Base, Till, bring_back, follow_all, put_away, sell, wrong


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def altered(engine: Engine, statement: str) -> None:
    """Change archived events behind the triggers' back."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL {SWITCH} = 'on'"))
            connection.execute(text(statement))
        else:
            for each in drop_statements(ARCHIVED, "sqlite"):
                connection.execute(each)
            connection.execute(text(statement))
            for each in create_statements(ARCHIVED, "sqlite"):
                connection.execute(each)


def test_archived_events_are_immutable_too(shop: Engine) -> None:
    put_away(shop)
    for statement in ("UPDATE archived_events SET version = 9", "DELETE FROM archived_events"):
        with shop.connect() as connection, pytest.raises(DBAPIError, match="immutable"):
            connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE archived_events SET event_data = \'{"what": "weed"}\' WHERE version = 2',
        "UPDATE archived_events SET occurred_at = '2020-01-01 00:00:00+00:00' WHERE version = 1",
        "UPDATE archived_events SET position = 100 WHERE version = 1",
        "DELETE FROM archived_events WHERE version = 3",
    ],
    ids=["payload", "time", "position", "missing"],
)
def test_what_was_altered_is_found_and_not_brought_back(shop: Engine, statement: str) -> None:
    put_away(shop)
    altered(shop, statement)
    findings = wrong(shop)
    assert any(each.startswith("archives: archiving.Till 't-1'") for each in findings)
    assert any(each.startswith("proofs:") for each in findings)
    with Session(shop) as session, pytest.raises(ArchiveError, match="not what was archived"):
        unarchive(session, Till, "t-1", reason="r")


def test_a_manifest_or_a_marker_that_is_missing_is_found(shop: Engine) -> None:
    put_away(shop)
    with shop.begin() as connection:
        connection.execute(text("DELETE FROM archives"))
    assert [each.split(": ", 2)[2][:40] for each in wrong(shop) if each.startswith("archives")] == [
        "it is marked as archived, and there is n",
        "events of it are in archived_events, and",
    ]
    with Session(shop) as session, pytest.raises(ArchiveError, match="not archived"):
        unarchive(session, Till, "t-1", reason="r")


def test_verify_says_how_many_are_archived_and_proofs_hold(shop: Engine) -> None:
    with Session(shop) as session:
        head = newest_head(session, base=Base)
        assert head is not None
        event_id: Any = session.scalar(select(EVENTS.c.event_id).where(EVENTS.c.aggregate_id == "t-1", EVENTS.c.version == 2))
        before = prove(session, event_id, head=head, base=Base)
    put_away(shop)
    found = verify(shop, Base, proofs=ProofOptions(heads=[head]))
    assert (found.is_sound, found.findings, found.archived, found.covered) == (True, (), 1, 8)
    with Session(shop) as session:
        assert prove(session, event_id, head=head, base=Base) == before
    bring_back(shop)
    found = verify(shop, Base, proofs=ProofOptions(heads=[head]))
    assert (found.findings, found.archived) == ((), 0)


def test_the_tree_goes_on_growing_behind_an_archive(shop: Engine) -> None:
    put_away(shop)
    sell(shop, "t-8", "pen")
    follow_all(shop)
    assert wrong(shop) == []
    bring_back(shop)
    assert wrong(shop) == []
