"""A stream that is archived, compacted or brought back in a two-phase commit: until the second phase, nothing has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from sa_eventsource import archive, archived_streams, compact, unarchive, unneeded_archive_files, verify
from tests.ending import patients
from tests.ending.tills import Base, Till, Tills, all_rows, before_a_move, follow_all, sell
from tests.proofs.cutting import Child, Cut, Points

_MOVES: dict[str, Any] = {"archive": archive, "compact": compact, "unarchive": unarchive}


def _kill_when_prepared(engine: Engine, prepare: Any, *arguments: Any) -> None:
    """Run *prepare* in a process that ends between the phases."""
    url = engine.url.render_as_string(hide_password=False)
    with Child(_prepare, url, prepare, *arguments, cuts=(Cut(1, "prepared"),)) as child:
        child.until_it_stops()
        child.kill()


def _prepare(points: Points, url: str, prepare: Any, *arguments: Any) -> None:
    with Session(create_engine(url), twophase=True) as session:
        prepare(session, *arguments)
        session.prepare()
        points.reach("prepared")


def _finish(engine: Engine, end: str) -> None:
    """Commit or roll back what was left prepared."""
    with engine.connect() as connection:
        (found,) = connection.recover_twophase()
        connection.rollback()
        {"commit": connection.commit_prepared, "rollback": connection.rollback_prepared}[end](found, recover=True)


def _move(session: Session, name: str) -> None:
    _MOVES[name](session, Till, "t-1", reason="r")


@pytest.mark.parametrize("is_killed", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["by its session", "by another"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("name", ["archive", "compact", "unarchive"])
def test_what_is_prepared_is_done_in_the_second_phase(preparing_engine: Engine, name: str, end: str, is_killed: bool) -> None:
    engine = preparing_engine
    Base.metadata.create_all(engine)
    sell(engine, "t-1", "pen", "ink")
    sell(engine, "t-2", "pen", close=False)
    before = before_a_move(engine, name)

    def is_archived() -> bool:
        with Session(engine) as session:
            return bool(archived_streams(session, base=Base))

    if is_killed:
        _kill_when_prepared(engine, _move, name)
        assert is_archived() is (name == "unarchive")
        _finish(engine, end)
    else:
        with Session(engine, twophase=True) as session:
            _move(session, name)
            session.prepare()
            assert is_archived() is (name == "unarchive")
            session.commit() if end == "commit" else session.rollback()

    assert is_archived() is ((name == "unarchive") is (end == "rollback"))
    follow_all(engine)
    assert [str(each) for each in verify(engine, Base, proofs=True).findings if not each.is_warning] == []
    with Session(engine) as session:
        assert (session.get(Tills, "t-1") is None) is is_archived()
        if is_archived():
            if name != "archive":
                assert session.get_one(Till, "t-1").sold == ("pen", "ink")
            unarchive(session, Till, "t-1", reason="r")
            session.commit()
        assert session.get_one(Till, "t-1").sold == ("pen", "ink")
    with engine.connect() as connection:
        assert all_rows(connection, "t-1") == before


def test_who_writes_waits_for_what_is_prepared(preparing_engine: Engine) -> None:
    Base.metadata.create_all(preparing_engine)
    sell(preparing_engine, "t-1", "pen")
    follow_all(preparing_engine)
    _kill_when_prepared(preparing_engine, _move, "archive")
    impatient = create_engine(preparing_engine.url, connect_args={"options": "-c lock_timeout=20ms"})
    with pytest.raises(OperationalError, match="lock timeout"):
        sell(impatient, "t-2", "pen")
    _finish(preparing_engine, "commit")
    sell(impatient, "t-2", "pen")
    impatient.dispose()


def _into_file(session: Session, folder: str) -> None:
    archive(session, patients.Patient, "p-1", reason="r", directory=folder)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_file_may_be_needed_until_the_second_phase(preparing_engine: Engine, tmp_path: Path, end: str) -> None:
    patients.Base.metadata.create_all(preparing_engine)
    patients.stay(preparing_engine, "p-1", "Ulm")
    _kill_when_prepared(preparing_engine, _into_file, str(tmp_path))
    (file,) = tmp_path.iterdir()
    impatient = create_engine(preparing_engine.url, connect_args={"options": "-c lock_timeout=20ms"})
    with Session(impatient) as session, pytest.raises(OperationalError, match="lock timeout"):
        unneeded_archive_files(session, tmp_path, base=patients.Base)
    _finish(preparing_engine, end)
    with Session(impatient) as session:
        assert unneeded_archive_files(session, tmp_path, base=patients.Base) == ([] if end == "commit" else [file])
    impatient.dispose()
    assert [str(each) for each in verify(preparing_engine, patients.Base).findings] == []
