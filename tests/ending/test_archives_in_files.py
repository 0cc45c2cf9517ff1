"""Archives as Parquet files: out of the database, whole on the disk before anything goes, and back."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import Engine, MetaData, create_engine, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    ArchiveError,
    ArchiveFileError,
    DomainEvent,
    EventIdConflictError,
    EventReplayer,
    EventSourceOptions,
    EventStore,
    MissingExtraError,
    Personal,
    ReadModel,
    StoredField,
    StreamArchivedError,
    StreamClosedError,
    anonymise,
    applies,
    archive,
    archived_streams,
    async_archive,
    async_unarchive,
    async_unneeded_archive_files,
    forget,
    map_from_event,
    personal_data,
    unarchive,
    unneeded_archive_files,
    verify,
)
from tests.cli.commands import fail, succeed
from tests.ending.garden import Base as Garden
from tests.ending.garden import Bed, all_rows, follow_all, plant
from tests.privacy.keys import MASTER_KEYS
from tests.proofs.cutting import Child, Cut, Points

BASE = "tests.ending.test_archives_in_files:Base"


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(archives="archives", master_keys=MASTER_KEYS, anonymisations="anonymisations")


class Written(DomainEvent):
    __event_type__ = "archive_files.Written"

    to: Annotated[str, Personal(subject="aggregate_id", placeholder="(forgotten)")]
    city: str | None = None


class Letter(AggregateRoot, Base):
    __aggregate_type__ = "archive_files.Letter"

    to: str = ""

    @applies(Written)
    def _written(self, event: Written) -> None:
        self.to = event.to


class Letters(ReadModel, Base):
    __projection_name__ = "archive_files_letters"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(Written, key=True, source="aggregate_id")
    city: Mapped[str | None] = map_from_event(Written)


EVENTS = Base.metadata.tables["events"]
ARCHIVED = Base.metadata.tables["archived_events"]
IDS = Base.metadata.tables["archived_event_ids"]


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def write(engine: Engine, letter_id: str, *cities: str | None) -> None:
    with Session(engine) as session:
        letter = Letter(id=letter_id)
        for city in cities:
            letter.apply_event(Written(to=f"Annabelle of {letter_id}", city=city))
        letter.close_stream("sent")
        session.add(letter)
        session.commit()


def put_away(engine: Engine, directory: Path, letter_id: str = "l-1") -> Any:
    with Session(engine) as session:
        done = archive(session, Letter, letter_id, reason="r", directory=directory)
        session.commit()
        return done


def bring_back(engine: Engine, letter_id: str = "l-1", **options: Any) -> Any:
    with Session(engine) as session:
        done = unarchive(session, Letter, letter_id, reason="r", **options)
        session.commit()
        return done


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
def letters(engine: Engine) -> Engine:
    write(engine, "l-1", "Ulm", "Zürich \U0001f389", None)
    write(engine, "l-2", "Bonn")
    return engine


# --- there and back ---


def test_the_events_are_in_a_file_and_no_more_in_the_database(letters: Engine, folder: Path) -> None:
    done = put_away(letters, folder)
    assert done.file == folder / f"{done.sha256}.parquet"
    assert (done.place, done.events) == (str(done.file), 4)
    assert names(folder) == [done.file.name]
    table = parquet.read_table(done.file)
    assert table["version"].to_pylist() == [1, 2, 3, 4]
    assert table["aggregate_id"].to_pylist() == ["l-1"] * 4
    with letters.connect() as connection:
        assert connection.execute(select(ARCHIVED)).all() == []
        assert [row[4] for row in all_rows(connection, "l-1")] == ["sa_eventsource.StreamArchived"]
    with Session(letters) as session:
        with pytest.raises(StreamArchivedError) as caught:
            session.get(Letter, "l-1")
        assert caught.value.place == done.place
        assert [each.file for each in archived_streams(session, base=Base)] == [done.file]
        assert session.get(Letters, "l-1") is None
        again = Letter(id="l-1")
        again.apply_event(Written(to="Bea"))
        session.add(again)
        with pytest.raises(StreamClosedError):
            session.commit()
    found = verify(letters, Base)
    assert (found.findings, found.archived) == ((), 1)


def test_every_value_comes_back_and_the_file_stays(letters: Engine, folder: Path) -> None:
    with letters.connect() as connection:
        before = all_rows(connection, "l-1")
    done = put_away(letters, folder)
    back = bring_back(letters)
    assert back.file == done.file
    assert done.file.exists()
    with letters.connect() as connection:
        after = all_rows(connection, "l-1")
        assert without_transaction(after) == without_transaction(before)
        assert {row[12] for row in after} == {"3" if letters.dialect.name == "postgresql" else "0"}
        assert connection.execute(select(ARCHIVED)).all() == connection.execute(select(IDS)).all() == []
    with Session(letters) as session:
        assert session.get_one(Letter, "l-1").to == "Annabelle of l-1"
        assert session.get_one(Letters, "l-1").city is None
    assert wrong(letters) == []
    assert put_away(letters, folder).sha256 == done.sha256
    assert wrong(letters) == []


def test_followers_get_nothing_twice_and_a_new_one_gets_all(letters: Engine, folder: Path) -> None:
    put_away(letters, folder)
    write(letters, "l-3", "Rome")
    bring_back(letters)
    EventReplayer(letters, Base).rebuild(Letters)
    assert wrong(letters) == []
    with Session(letters) as session:
        assert [each.aggregate_id for each in EventStore(session, Base).events.all()] == [*["l-1"] * 4, *["l-2"] * 2, *["l-3"] * 2]


def test_a_rollback_leaves_a_file_that_nobody_needs_and_the_next_archive_takes_its_place(letters: Engine, folder: Path) -> None:
    with Session(letters) as session:
        done = archive(session, Letter, "l-1", reason="r", directory=folder)
        assert unneeded_archive_files(session, folder, base=Base) == []
        session.rollback()
        assert session.get_one(Letter, "l-1").version == 4
        assert unneeded_archive_files(session, folder, base=Base) == [done.file]
    (folder / "notes.txt").write_text("mine")
    put_away(letters, folder)
    with Session(letters) as session:
        assert unneeded_archive_files(session, str(folder), base=Base) == []
        unarchive(session, Letter, "l-1", reason="r")
        session.commit()
        assert unneeded_archive_files(session, folder, base=Base) == [done.file]


def test_a_dry_run_writes_no_file_and_reads_it(letters: Engine, folder: Path) -> None:
    with Session(letters) as session:
        asked = archive(session, Letter, "l-1", reason="r", directory=folder, dry_run=True)
        session.commit()
    assert names(folder) == []
    done = put_away(letters, folder)
    assert (asked.file, asked.sha256) == (done.file, done.sha256)
    with letters.connect() as connection:
        before = connection.execute(select(IDS.c.event_id).order_by(IDS.c.version)).all()
    assert len(before) == 4
    bring_back(letters, dry_run=True)
    with letters.connect() as connection:
        assert connection.execute(select(IDS.c.event_id).order_by(IDS.c.version)).all() == before
        assert connection.execute(select(ARCHIVED)).all() == []
    done.file.unlink()
    with pytest.raises(ArchiveFileError, match="is not there"):
        bring_back(letters, dry_run=True)


# --- refused ---


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(bytes(data))


def _other_city(path: Path) -> None:
    table = parquet.read_table(path)
    data = [each.replace("Ulm", "Rom") for each in table["event_data"].to_pylist()]
    number = table.schema.get_field_index("event_data")
    parquet.write_table(table.set_column(number, table.schema.field(number), pa.array(data)), path)


def _one_less(path: Path) -> None:
    parquet.write_table(parquet.read_table(path).slice(0, 3), path)


@pytest.mark.parametrize("alter", [Path.unlink, _cut_off, _flip, _other_city, _one_less])
def test_a_file_that_is_missing_or_altered_is_found_and_not_brought_back(letters: Engine, folder: Path, alter: Any) -> None:
    done = put_away(letters, folder)
    alter(done.file)
    (finding,) = wrong(letters)
    assert finding.startswith(f"archives: archive_files.Letter 'l-1': its file {done.file} ")
    with Session(letters) as session:
        with pytest.raises(ArchiveFileError) as caught:
            unarchive(session, Letter, "l-1", reason="r")
        assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("archive_files.Letter", "l-1")
        assert caught.value.path == done.file
        assert isinstance(caught.value, ArchiveError)
        session.commit()
    with letters.connect() as connection:
        assert [row[4] for row in all_rows(connection, "l-1")] == ["sa_eventsource.StreamArchived"]
        assert connection.execute(select(ARCHIVED)).all() == []
        assert len(connection.execute(select(IDS)).all()) == 4


def test_what_is_read_back_as_something_else_is_not_archived(
    letters: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def lose_a_byte(descriptor: int) -> None:
        fsync(descriptor)
        (path,) = folder.iterdir()
        _flip(path)

    monkeypatch.setattr(os, "fsync", lose_a_byte)
    with pytest.raises(ArchiveFileError):
        put_away(letters, folder)
    assert names(folder) == []
    with Session(letters) as session:
        assert session.get_one(Letter, "l-1").version == 4


def test_a_directory_that_is_not_there_or_none_is_refused_before_anything_is_locked(letters: Engine, folder: Path) -> None:
    with Session(letters) as session:
        for dry_run in (True, False):
            with pytest.raises(ArchiveFileError, match="Create it first") as caught:
                archive(session, Letter, "l-1", reason="r", directory=folder / "no", dry_run=dry_run)
            assert caught.value.path == folder / "no"
        wrong_directory: Any
        for wrong_directory in (7, b"/tmp"):
            with pytest.raises(TypeError, match="give a path"):
                archive(session, Letter, "l-1", reason="r", directory=wrong_directory)


def test_a_disk_that_is_full_is_told(letters: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArchiveFileError, match=r"cannot be written.*No space left"):
        put_away(letters, folder)
    assert names(folder) == []
    assert wrong(letters) == []


def test_a_log_with_proofs_keeps_its_events_in_the_database(engine: Engine, folder: Path) -> None:
    Garden.metadata.drop_all(engine)
    Base.metadata.drop_all(engine)
    Garden.metadata.create_all(engine)
    plant(engine, "b-1", "leek")
    follow_all(engine)
    with Session(engine) as session, pytest.raises(ArchiveError, match=r"has proofs.*Leave out directory="):
        archive(session, Bed, "b-1", reason="r", directory=folder)


def test_without_pyarrow_the_extra_is_named(letters: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = put_away(letters, folder)
    for name in [each for each in sys.modules if each.startswith(("pyarrow", "sa_eventsource.transfer.parquet"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="parquet"):
        put_away(letters, folder, "l-2")
    with pytest.raises(MissingExtraError, match="parquet"):
        bring_back(letters)
    (finding,) = wrong(letters)
    assert f"its file {done.file} cannot be checked here" in finding


def test_the_ids_of_events_in_files_are_taken(letters: Engine, folder: Path) -> None:
    with Session(letters) as session:
        event_id = EventStore(session, Base).events.of(Letter, "l-1").all()[1].event_id
    put_away(letters, folder)
    with Session(letters) as session:
        letter = Letter(id="l-3")
        letter.apply_event(Written(to="Bea"), event_id=event_id)
        session.add(letter)
        with pytest.raises(EventIdConflictError) as caught:
            session.commit()
        error = caught.value
        assert (error.event_id, error.aggregate_id, error.version) == (event_id, "l-1", 2)
        assert error.differences == ("aggregate_id", "version")


def test_ids_that_were_lost_are_found(letters: Engine, folder: Path) -> None:
    put_away(letters, folder)
    with letters.begin() as connection:
        connection.execute(IDS.delete().where(IDS.c.version == 2))
    assert "of the ids of its events (4), 3 are kept" in wrong(letters)[0]
    with letters.begin() as connection:
        connection.execute(text("DELETE FROM archives"))
    assert any("it is no archive in a file" in each for each in wrong(letters))


# --- personal data ---


def test_who_is_forgotten_is_forgotten_in_files_too(letters: Engine, folder: Path) -> None:
    done = put_away(letters, folder)
    assert b"Annabelle" not in done.file.read_bytes()
    assert "Annabelle" not in str(parquet.read_table(done.file)["event_data"])
    with Session(letters) as session:
        held: Any = personal_data(session, "l-1", base=Base)
        assert (held["events"], held["archived_files"]) == (
            [],
            [{"aggregate_type": "archive_files.Letter", "aggregate_id": "l-1", "place": done.place}],
        )
        assert personal_data(session, "l-2", base=Base)["archived_files"] == []
        forget(session, "l-1", reason="request", base=Base)
        session.commit()
        assert personal_data(session, "l-1", base=Base)["archived_files"] == []
    bring_back(letters)
    with Session(letters) as session:
        assert session.get_one(Letter, "l-1").to == "(forgotten)"
    assert wrong(letters) == []


def test_what_an_anonymisation_has_missed_is_not_brought_back(letters: Engine, folder: Path) -> None:
    def hide(field: StoredField) -> Any:
        return "(gone)" if field.value is not None else None

    put_away(letters, folder)
    with Session(letters) as session:
        while not anonymise(EventStore(session, Base).events, ["city"], hide, name="cities", reason="r").is_finished:
            session.commit()
        session.commit()
    with pytest.raises(ArchiveError, match=r"'cities' \(city\)"):
        bring_back(letters)
    bring_back(letters, despite_anonymisations=True)
    assert wrong(letters) == []


# --- async, the command line, and who is killed ---


async def test_async(async_engine: AsyncEngine, folder: Path) -> None:
    url = async_engine.url
    engine = create_engine(url.set(drivername="sqlite") if url.drivername.startswith("sqlite") else url)
    write(engine, "l-1", "Ulm")
    async with AsyncSession(async_engine) as session:
        done = await async_archive(session, Letter, "l-1", reason="r", directory=folder)
        await async_unarchive(session, Letter, "l-1", reason="r")
        await session.commit()
        assert await async_unneeded_archive_files(session, folder, base=Base) == [done.file]
    engine.dispose()


def test_the_command_line(letters: Engine, folder: Path) -> None:
    stream = (BASE, "archive_files.Letter", "l-1", "--reason", "r")
    succeed("archive", *stream, "--directory", str(folder), engine=letters)
    (name,) = names(folder)
    assert f"4 events in {folder / name}" in succeed("archived", BASE, engine=letters).stdout.replace("\n", "")
    assert succeed("archived", BASE, "--unneeded", str(folder), engine=letters).stdout == ""
    (folder / name).rename(folder / "elsewhere.parquet")
    assert "is not there" in fail("unarchive", *stream, engine=letters, status=1)
    assert "elsewhere.parquet" in succeed("archived", BASE, "--unneeded", str(folder), engine=letters).stdout
    lines = succeed("archived", BASE, "--unneeded", str(folder), "--json", engine=letters).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [str(folder / "elsewhere.parquet")]
    assert "give one of them" in fail("archived", BASE, "--unneeded", str(folder), "--returned", engine=letters, status=2)
    (folder / "elsewhere.parquet").rename(folder / name)
    succeed("unarchive", *stream, engine=letters)


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
        archive(session, Letter, "l-1", reason="r", directory=directory)
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
    write(engine, "l-1", "Ulm", "Bonn")
    with engine.connect() as connection:
        before = all_rows(connection, "l-1")
    with Child(_archive_it, postgres_database_url, str(folder), cuts=(cut,)) as child:
        child.until_it_stops()
        child.kill()
    with Session(engine) as session:
        if not archived_streams(session, base=Base):
            assert cut.kind != "COMMIT sent" or session.get(Letter, "l-1") is not None
            left = unneeded_archive_files(session, folder, base=Base)
            assert len(left) == 1
            assert left == sorted(folder.iterdir())
            archive(session, Letter, "l-1", reason="again", directory=folder)
            session.commit()
        assert unneeded_archive_files(session, folder, base=Base) == []
        assert len(names(folder)) == 1
    assert wrong(engine) == []
    bring_back(engine)
    with engine.connect() as connection:
        assert without_transaction(all_rows(connection, "l-1")) == without_transaction(before)
    engine.dispose()
