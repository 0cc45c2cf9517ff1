"""Archives as Parquet files: out of the database, whole on the disk before anything goes, and back."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import Engine, MetaData, create_engine, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from sa_eventsource import (
    ArchiveError,
    ArchiveFileError,
    EventIdConflictError,
    EventReplayer,
    EventStore,
    MissingExtraError,
    StreamArchivedError,
    StreamClosedError,
    archive,
    archived_streams,
    async_archive,
    async_unarchive,
    async_unneeded_archive_files,
    forget,
    personal_data,
    unarchive,
    unneeded_archive_files,
    verify,
)
from tests.anonymising import anonymise_all
from tests.cli.commands import fail, succeed
from tests.clinic import Admitted, Visited
from tests.ending.patients import BASE, Base, Patient, Patients, bring_back, put_away, stay
from tests.ending.tills import Base as Shop
from tests.ending.tills import Till, all_rows, follow_all, sell
from tests.proofs.cutting import Child, Cut, Points

EVENTS = Base.metadata.tables["events"]
ARCHIVED = Base.metadata.tables["archived_events"]
IDS = Base.metadata.tables["archived_event_ids"]


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def without_transaction(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(*row[:12], row[13]) for row in rows]


def wrong(engine: Engine) -> list[str]:
    return [str(each) for each in verify(engine, Base).findings]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "cold"
    found.mkdir()
    return found


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture
def clinic(engine: Engine) -> Engine:
    stay(engine, "p-1", "Ulm", "Zürich \U0001f389")
    stay(engine, "p-2", "Bonn")
    return engine


# --- there and back ---


def test_the_events_are_in_a_file_and_no_more_in_the_database(clinic: Engine, folder: Path) -> None:
    done = put_away(clinic, "p-1", directory=folder)
    assert done.file == folder / f"{done.sha256}.parquet"
    assert (done.place, done.events) == (str(done.file), 4)
    assert names(folder) == [done.file.name]
    table = parquet.read_table(done.file)
    assert table["version"].to_pylist() == [1, 2, 3, 4]
    assert table["aggregate_id"].to_pylist() == ["p-1"] * 4
    with clinic.connect() as connection:
        assert connection.execute(select(ARCHIVED)).all() == []
        assert [row[4] for row in all_rows(connection, "p-1")] == ["sa_eventsource.StreamArchived"]
    with Session(clinic) as session:
        with pytest.raises(StreamArchivedError) as caught:
            session.get(Patient, "p-1")
        assert caught.value.place == done.place
        assert [each.file for each in archived_streams(session, base=Base)] == [done.file]
        assert session.get(Patients, "p-1") is None
        again = Patient(id="p-1")
        again.apply_event(Visited(visitor="Cid", visitor_id="cid"))
        session.add(again)
        with pytest.raises(StreamClosedError):
            session.commit()
    found = verify(clinic, Base)
    assert (found.findings, found.archived) == ((), 1)


def test_every_value_comes_back_and_the_file_stays(clinic: Engine, folder: Path) -> None:
    with clinic.connect() as connection:
        before = all_rows(connection, "p-1")
    done = put_away(clinic, "p-1", directory=folder)
    back = bring_back(clinic, "p-1")
    assert back.file == done.file
    assert done.file.exists()
    with clinic.connect() as connection:
        after = all_rows(connection, "p-1")
        assert without_transaction(after) == without_transaction(before)
        assert {row[12] for row in after} == {"3" if clinic.dialect.name == "postgresql" else "0"}
        assert connection.execute(select(ARCHIVED)).all() == connection.execute(select(IDS)).all() == []
    with Session(clinic) as session:
        assert session.get_one(Patient, "p-1").name == "Annabelle of p-1"
        assert session.get_one(Patients, "p-1").ward == "Zürich \U0001f389"
    assert wrong(clinic) == []
    assert put_away(clinic, "p-1", directory=folder).sha256 == done.sha256
    assert wrong(clinic) == []


def test_followers_get_nothing_twice_and_a_new_one_gets_all(clinic: Engine, folder: Path) -> None:
    put_away(clinic, "p-1", directory=folder)
    stay(clinic, "p-3", "Rome")
    bring_back(clinic, "p-1")
    EventReplayer(clinic, Base).rebuild(Patients)
    assert wrong(clinic) == []
    with Session(clinic) as session:
        assert [each.aggregate_id for each in EventStore(session, Base).events.all()] == [*["p-1"] * 4, *["p-2"] * 3, *["p-3"] * 3]


def test_a_rollback_leaves_a_file_that_nobody_needs_and_the_next_archive_takes_its_place(clinic: Engine, folder: Path) -> None:
    with Session(clinic) as session:
        done = archive(session, Patient, "p-1", reason="r", directory=folder)
        assert unneeded_archive_files(session, folder, base=Base) == []
        session.rollback()
        assert session.get_one(Patient, "p-1").version == 4
        assert unneeded_archive_files(session, folder, base=Base) == [done.file]
    (folder / "notes.txt").write_text("mine")
    put_away(clinic, "p-1", directory=folder)
    with Session(clinic) as session:
        assert unneeded_archive_files(session, str(folder), base=Base) == []
        unarchive(session, Patient, "p-1", reason="r")
        session.commit()
        assert unneeded_archive_files(session, folder, base=Base) == [done.file]


def test_a_dry_run_writes_no_file_and_reads_it(clinic: Engine, folder: Path) -> None:
    with Session(clinic) as session:
        asked = archive(session, Patient, "p-1", reason="r", directory=folder, dry_run=True)
        session.commit()
    assert names(folder) == []
    done = put_away(clinic, "p-1", directory=folder)
    assert (asked.file, asked.sha256) == (done.file, done.sha256)
    with clinic.connect() as connection:
        before = connection.execute(select(IDS.c.event_id).order_by(IDS.c.version)).all()
    assert len(before) == 4
    bring_back(clinic, "p-1", dry_run=True)
    with clinic.connect() as connection:
        assert connection.execute(select(IDS.c.event_id).order_by(IDS.c.version)).all() == before
        assert connection.execute(select(ARCHIVED)).all() == []
    done.file.unlink()
    with pytest.raises(ArchiveFileError, match="is not there"):
        bring_back(clinic, "p-1", dry_run=True)


# --- refused ---


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(bytes(data))


def _other_ward(path: Path) -> None:
    table = parquet.read_table(path)
    data = [each.replace("Ulm", "Rom") for each in table["event_data"].to_pylist()]
    number = table.schema.get_field_index("event_data")
    parquet.write_table(table.set_column(number, table.schema.field(number), pa.array(data)), path)


def _one_less(path: Path) -> None:
    parquet.write_table(parquet.read_table(path).slice(0, 3), path)


@pytest.mark.parametrize("alter", [Path.unlink, _cut_off, _flip, _other_ward, _one_less])
def test_a_file_that_is_missing_or_altered_is_found_and_not_brought_back(clinic: Engine, folder: Path, alter: Any) -> None:
    done = put_away(clinic, "p-1", directory=folder)
    alter(done.file)
    (finding,) = wrong(clinic)
    assert finding.startswith(f"archives: ending.Patient 'p-1': its file {done.file} ")
    with Session(clinic) as session:
        with pytest.raises(ArchiveFileError) as caught:
            unarchive(session, Patient, "p-1", reason="r")
        assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("ending.Patient", "p-1")
        assert caught.value.path == done.file
        assert isinstance(caught.value, ArchiveError)
        session.commit()
    with clinic.connect() as connection:
        assert [row[4] for row in all_rows(connection, "p-1")] == ["sa_eventsource.StreamArchived"]
        assert connection.execute(select(ARCHIVED)).all() == []
        assert len(connection.execute(select(IDS)).all()) == 4


def test_what_is_read_back_as_something_else_is_not_archived(clinic: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def lose_a_byte(descriptor: int) -> None:
        fsync(descriptor)
        (path,) = folder.iterdir()
        _flip(path)

    monkeypatch.setattr(os, "fsync", lose_a_byte)
    with pytest.raises(ArchiveFileError):
        put_away(clinic, "p-1", directory=folder)
    assert names(folder) == []
    with Session(clinic) as session:
        assert session.get_one(Patient, "p-1").version == 4


def test_a_directory_that_is_not_there_or_none_is_refused_before_anything_is_locked(clinic: Engine, folder: Path) -> None:
    with Session(clinic) as session:
        for dry_run in (True, False):
            with pytest.raises(ArchiveFileError, match="Create it first") as caught:
                archive(session, Patient, "p-1", reason="r", directory=folder / "no", dry_run=dry_run)
            assert caught.value.path == folder / "no"
        wrong_directory: Any
        for wrong_directory in (7, b"/tmp"):
            with pytest.raises(TypeError, match="give a path"):
                archive(session, Patient, "p-1", reason="r", directory=wrong_directory)


def test_a_disk_that_is_full_is_told(clinic: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArchiveFileError, match=r"cannot be written.*No space left"):
        put_away(clinic, "p-1", directory=folder)
    assert names(folder) == []
    assert wrong(clinic) == []


def test_a_log_with_proofs_keeps_its_events_in_the_database(engine: Engine, folder: Path) -> None:
    Shop.metadata.drop_all(engine)
    Base.metadata.drop_all(engine)
    Shop.metadata.create_all(engine)
    sell(engine, "t-1", "pen")
    follow_all(engine)
    with Session(engine) as session, pytest.raises(ArchiveError, match=r"has proofs.*Leave out directory="):
        archive(session, Till, "t-1", reason="r", directory=folder)


def test_without_pyarrow_the_extra_is_named(clinic: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = put_away(clinic, "p-1", directory=folder)
    for name in [each for each in sys.modules if each.startswith(("pyarrow", "sa_eventsource.transfer.parquet"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="parquet"):
        put_away(clinic, "p-2", directory=folder)
    with pytest.raises(MissingExtraError, match="parquet"):
        bring_back(clinic, "p-1")
    (finding,) = wrong(clinic)
    assert f"its file {done.file} cannot be checked here" in finding


def test_the_ids_of_events_in_files_are_taken(clinic: Engine, folder: Path) -> None:
    with Session(clinic) as session:
        event_id = EventStore(session, Base).events.of(Patient, "p-1").all()[1].event_id
    put_away(clinic, "p-1", directory=folder)
    with Session(clinic) as session:
        patient = Patient(id="p-3")
        patient.apply_event(Admitted(name="Cid", person_id="p-3"), event_id=event_id)
        session.add(patient)
        with pytest.raises(EventIdConflictError) as caught:
            session.commit()
        error = caught.value
        assert (error.event_id, error.aggregate_id, error.version) == (event_id, "p-1", 2)
        assert error.differences == ("aggregate_id", "version")


def test_ids_that_were_lost_are_found(clinic: Engine, folder: Path) -> None:
    put_away(clinic, "p-1", directory=folder)
    with clinic.begin() as connection:
        connection.execute(IDS.delete().where(IDS.c.version == 2))
    assert "of the ids of its events (4), 3 are kept" in wrong(clinic)[0]
    with clinic.begin() as connection:
        connection.execute(text("DELETE FROM archives"))
    assert any("it is no archive in a file" in each for each in wrong(clinic))


# --- personal data ---


def test_who_is_forgotten_is_forgotten_in_files_too(clinic: Engine, folder: Path) -> None:
    done = put_away(clinic, "p-1", directory=folder)
    assert b"Annabelle" not in done.file.read_bytes()
    assert "Annabelle" not in str(parquet.read_table(done.file)["event_data"])
    with Session(clinic) as session:
        held: Any = personal_data(session, "p-1", base=Base)
        assert (held["events"], held["archived_files"]) == (
            [],
            [{"aggregate_type": "ending.Patient", "aggregate_id": "p-1", "place": done.place}],
        )
        assert personal_data(session, "p-2", base=Base)["archived_files"] == []
        forget(session, "p-1", reason="request", base=Base)
        session.commit()
        assert personal_data(session, "p-1", base=Base)["archived_files"] == []
    bring_back(clinic, "p-1")
    with Session(clinic) as session:
        assert session.get_one(Patient, "p-1").name == "(forgotten)"
    assert wrong(clinic) == []


def test_what_an_anonymisation_has_missed_is_not_brought_back(clinic: Engine, folder: Path) -> None:
    put_away(clinic, "p-1", directory=folder)
    with Session(clinic) as session:
        anonymise_all(session, EventStore(session, Base).events, "ward", name="wards")
    with pytest.raises(ArchiveError, match=r"'wards' \(ward\)"):
        bring_back(clinic, "p-1")
    bring_back(clinic, "p-1", despite_anonymisations=True)
    assert wrong(clinic) == []


# --- async, the command line, and who is killed ---


async def test_async(async_engine: AsyncEngine, folder: Path) -> None:
    url = async_engine.url
    engine = create_engine(url.set(drivername="sqlite") if url.drivername.startswith("sqlite") else url)
    stay(engine, "p-1", "Ulm")
    async with AsyncSession(async_engine) as session:
        done = await async_archive(session, Patient, "p-1", reason="r", directory=folder)
        await async_unarchive(session, Patient, "p-1", reason="r")
        await session.commit()
        assert await async_unneeded_archive_files(session, folder, base=Base) == [done.file]
    engine.dispose()


def test_the_command_line(clinic: Engine, folder: Path) -> None:
    stream = (BASE, "ending.Patient", "p-1", "--reason", "r")
    succeed("archive", *stream, "--directory", str(folder), engine=clinic)
    (name,) = names(folder)
    assert f"4 events in {folder / name}" in succeed("archived", BASE, engine=clinic).stdout.replace("\n", "")
    nothing = succeed("archived", BASE, "--unneeded", str(folder), engine=clinic)
    assert (nothing.stdout, nothing.stderr) == ("", f"there is no unneeded file in {folder}\n")
    (folder / name).rename(folder / "elsewhere.parquet")
    assert "is not there" in fail("unarchive", *stream, engine=clinic, status=1)
    assert "elsewhere.parquet" in succeed("archived", BASE, "--unneeded", str(folder), engine=clinic).stdout
    lines = succeed("archived", BASE, "--unneeded", str(folder), "--json", engine=clinic).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [str(folder / "elsewhere.parquet")]
    assert "give one of them" in fail("archived", BASE, "--unneeded", str(folder), "--returned", engine=clinic, status=2)
    (folder / "elsewhere.parquet").rename(folder / name)
    succeed("unarchive", *stream, engine=clinic)


def _archive_it(points: Points, url: str, directory: str) -> None:
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(fd: Any) -> None:
        points.reach("before fsync")
        fsync(fd)
        points.reach("after fsync")

    def watched_replace(path: Path, target: Path) -> Path:
        points.reach("before rename")
        done = replace(path, target)
        points.reach("after rename")
        return done

    os.fsync = watched_fsync
    Path.replace = watched_replace  # type: ignore[assignment,method-assign]
    engine = create_engine(url)
    points.watch(engine)
    with Session(engine) as session:
        archive(session, Patient, "p-1", reason="r", directory=directory)
        session.commit()
    engine.dispose()


@pytest.mark.parametrize(
    "cut",
    [
        Cut(1, "before rename"),
        Cut(1, "after rename"),
        Cut(1, "COMMIT sent"),
        *(
            pytest.param(cut, marks=pytest.mark.slow)
            for cut in (
                Cut(1, "before fsync"),
                Cut(1, "after fsync"),
                Cut(2, "after fsync"),
                Cut(1, "after DELETE"),
                Cut(1, "before COMMIT"),
            )
        ),
    ],
    ids=lambda cut: f"{cut.kind}-{cut.number}",
)
def test_who_is_killed_while_he_writes_a_file_loses_nothing(postgres_database_url: str, folder: Path, cut: Cut) -> None:
    engine = create_engine(postgres_database_url)
    stay(engine, "p-1", "Ulm", "Bonn")
    with engine.connect() as connection:
        before = all_rows(connection, "p-1")
    with Child(_archive_it, postgres_database_url, str(folder), cuts=(cut,)) as child:
        child.until_it_stops()
        child.kill()
    with Session(engine) as session:
        if not archived_streams(session, base=Base):
            assert cut.kind != "COMMIT sent" or session.get(Patient, "p-1") is not None
            left = unneeded_archive_files(session, folder, base=Base)
            assert len(left) == 1
            assert left == sorted(folder.iterdir())
            archive(session, Patient, "p-1", reason="again", directory=folder)
            session.commit()
        assert unneeded_archive_files(session, folder, base=Base) == []
        assert len(names(folder)) == 1
    assert wrong(engine) == []
    bring_back(engine, "p-1")
    with engine.connect() as connection:
        assert without_transaction(all_rows(connection, "p-1")) == without_transaction(before)
    engine.dispose()
