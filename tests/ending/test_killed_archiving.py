"""Who is killed while he archives or compacts a stream, or brings it back, loses nothing, and another one does it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine
from sqlalchemy.orm import Session

from sa_eventsource import archive, archived_streams, compact, unarchive
from sa_eventsource.verification import verify
from tests.ending.tills import Base, Till, all_rows, before_a_move, sell
from tests.proofs.cutting import Child, Cut, Points

_MOVES: dict[str, Any] = {"archive": archive, "compact": compact, "unarchive": unarchive}

LAST = 60
"""No archiving has so many points."""


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def _move(points: Points, url: str, name: str) -> None:
    engine = create_engine(url)
    points.watch(engine)
    with Session(engine) as session:
        _MOVES[name](session, Till, "t-1", reason="r")
        session.commit()
    engine.dispose()


def _is_archived(session: Session) -> bool:
    return bool(archived_streams(session, base=Base))


@pytest.mark.parametrize(
    "cut",
    [
        Cut(1, "after DELETE"),
        Cut(1, "after UPDATE"),
        Cut(1, "before COMMIT"),
        Cut(1, "COMMIT sent"),
        *(pytest.param(Cut(number), marks=pytest.mark.slow) for number in range(1, LAST, 4)),
    ],
    ids=lambda cut: f"{cut.kind or 'point'}-{cut.number}",
)
@pytest.mark.parametrize("name", ["archive", "compact", "unarchive"])
def test_a_killed_process_leaves_the_stream_here_or_there(postgres_database_url: str, name: str, cut: Cut) -> None:
    engine = create_engine(postgres_database_url)
    sell(engine, "t-1", "pen", "ink")
    before = before_a_move(engine, name)
    with Child(_move, postgres_database_url, name, cuts=(cut,)) as child:
        child.until_it_stops()
        child.kill()
    with Session(engine) as session:
        was_done = _is_archived(session) is (name != "unarchive")
        assert was_done is (cut.kind == "COMMIT sent" and was_done)  # once it is on its way, nobody knows
        if not was_done:
            _MOVES[name](session, Till, "t-1", reason="again")
            session.commit()
        if name == "compact":
            assert session.get_one(Till, "t-1").sold == ("pen", "ink")
            session.rollback()
        if name != "unarchive":
            unarchive(session, Till, "t-1", reason="r")
            session.commit()
        assert not _is_archived(session)
    with engine.connect() as connection:
        assert all_rows(connection, "t-1") == before
    assert [str(each) for each in verify(engine, Base, proofs=True).findings if not each.is_warning] == []
    engine.dispose()
