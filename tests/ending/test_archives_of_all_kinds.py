"""Archives of logs with roles, tenants, partitions and personal data, and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    ArchiveError,
    DeclarationError,
    EventSourceOptions,
    EventStore,
    ReadModel,
    ReadModelManager,
    StreamArchivedError,
    StreamClosedError,
    archive,
    archived_streams,
    compact,
    forget,
    map_from_event,
    personal_data,
    unarchive,
    unneeded_archive_files,
    verify,
)
from tests.cli.commands import call, fail, succeed
from tests.clinic import Admitted, AnyPatient
from tests.database_roles import ROLES, connected_as, drop_roles, engine_as, grant_with_tables, own_roles, session_of
from tests.databases import DatabasePool
from tests.ending.tills import Base as Shop
from tests.ending.tills import all_rows, follow_all, sell
from tests.privacy.keys import MASTER_KEYS


@pytest.fixture
def tables() -> MetaData | None:
    return None


class Clinic(DeclarativeBase):
    __eventsource__ = EventSourceOptions(archives="archives", roles=ROLES, master_keys=MASTER_KEYS, partitions=3)


class Patient(AnyPatient, Clinic):
    __aggregate_type__ = "archives.Patient"


class Names(ReadModel, Clinic):
    __tablename__ = "archives_names"
    __projection_name__ = "archives.names"
    __personal_data__ = "clear"

    name: Mapped[str] = map_from_event(Admitted)


def admit(engine: Engine, patient_id: str, name: str) -> None:
    with Session(engine) as session:
        patient = Patient.admit(patient_id, name)
        patient.close_stream("discharged")
        session.add(patient)
        session.commit()


grant_with_tables(Clinic)


@pytest.fixture
def clinic(postgres_databases: DatabasePool) -> Iterator[Engine]:
    """Partitioned, with roles and personal data."""
    with postgres_databases.database(Clinic.metadata) as url:
        engine = create_engine(url)
        admit(engine, "p-1", "Annabelle")
        admit(engine, "p-2", "Bea")
        ReadModelManager(engine, Clinic).catch_up()
        yield engine
        engine.dispose()


def moved(engine: Engine, function: Any, patient_id: str = "p-1") -> Any:
    with Session(engine) as session:
        done = function(session, Patient, patient_id, reason="r")
        session.commit()
        return done


@pytest.mark.parametrize("role", ["app", "worker", "reader", "privacy_officer"])
def test_the_owner_archives_and_no_role_does(clinic: Engine, role: str) -> None:
    function: Any
    with connected_as(clinic, getattr(ROLES, role)) as engine:
        for function in (archive, compact):
            with pytest.raises(ArchiveError, match=r"the role '.*' may not delete from the log.*owner of the table events"):
                moved(engine, function)
    moved(clinic, archive)
    with connected_as(clinic, getattr(ROLES, role)) as engine:
        for function in (unarchive, compact):
            with pytest.raises(ArchiveError, match="as the owner"):
                moved(engine, function)
        with Session(engine) as session:
            assert [each.aggregate_id for each in archived_streams(session, base=Clinic)] == ["p-1"]
            with pytest.raises(StreamArchivedError):
                session.get(Patient, "p-1")
    moved(clinic, unarchive)
    assert verify(clinic, Clinic).findings == ()


def test_the_application_begins_no_archived_stream_again(clinic: Engine) -> None:
    moved(clinic, archive)
    with connected_as(clinic, ROLES.app) as engine:
        with pytest.raises(StreamClosedError):
            admit(engine, "p-1", "Annabelle")
        admit(engine, "p-3", "Cleo")


def test_a_partitioned_log_gets_each_value_back(clinic: Engine) -> None:
    with clinic.connect() as connection:
        before = all_rows(connection, "p-1")
    moved(clinic, archive)
    moved(clinic, unarchive)
    with clinic.connect() as connection:
        assert all_rows(connection, "p-1") == before


def test_what_is_sealed_stays_sealed_and_whoever_is_forgotten_stays_so(clinic: Engine) -> None:
    moved(clinic, archive)
    with clinic.connect() as connection:
        assert "Annabelle" not in str(connection.execute(text("SELECT * FROM archived_events")).all())
        assert connection.scalars(text("SELECT name FROM archives_names")).all() == ["Bea"]
    with Session(clinic) as session:
        held: Any = personal_data(session, "p-1", base=Clinic)
        assert [each["data"] for each in held["events"]] == [{"name": "Annabelle"}]
        forget(session, "p-1", reason="request", base=Clinic)
        session.commit()
        assert personal_data(session, "p-1", base=Clinic)["events"] == []
    moved(clinic, unarchive)
    with Session(clinic) as session:
        assert session.get_one(Patient, "p-1").name == "(forgotten)"
        assert sorted(session.scalars(select(Names.name))) == ["(forgotten)", "Bea"]
    assert verify(clinic, Clinic).findings == ()


# --- compacted, with personal data ---


def compacted(engine: Engine, patient_id: str = "p-1", **options: Any) -> None:
    with Session(engine) as session:
        compact(session, Patient, patient_id, reason="r", **options)
        session.commit()


def everything_stored(engine: Engine) -> str:
    """Read all tables of the clinic."""
    with engine.connect() as connection:
        return str([connection.execute(select(table)).all() for table in Clinic.metadata.sorted_tables])


def test_the_state_of_a_compacted_stream_is_sealed(clinic: Engine) -> None:
    compacted(clinic)
    assert "Annabelle" not in everything_stored(clinic)
    for role in ("app", "worker"):
        with connected_as(clinic, getattr(ROLES, role)) as engine, Session(engine) as session:
            assert session.get_one(Patient, "p-1").name == "Annabelle"
            assert [each.name for each in session.scalars(select(Patient).order_by(Patient.id))] == ["Annabelle", "Bea"]
    masked = clinic.execution_options(personal_data="masked")
    with connected_as(clinic, ROLES.reader) as engine:
        for each in (masked, engine.execution_options(personal_data="masked")):
            with Session(each) as session:
                assert session.get_one(Patient, "p-1").name == "(forgotten)"
    with connected_as(clinic, ROLES.app) as engine, Session(engine) as session, pytest.raises(StreamClosedError):
        session.get_one(Patient, "p-1").apply_event(Admitted(name="Cleo", person_id="p-1"))
    assert verify(clinic, Clinic).findings == ()


@pytest.mark.parametrize("before", [True, False], ids=["forgotten before", "forgotten after"])
@pytest.mark.parametrize("in_file", [False, True], ids=["table", "file"])
def test_a_forgotten_name_does_not_come_back_with_the_state(clinic: Engine, tmp_path: Path, in_file: bool, before: bool) -> None:
    where: dict[str, Any] = {"directory": tmp_path} if in_file else {}
    snapshots = Clinic.metadata.tables["snapshots"]
    if not before:
        compacted(clinic, **where)
    with clinic.connect() as connection:
        kept = connection.execute(select(snapshots).where(snapshots.c.aggregate_id == "p-1")).mappings().all()
    with Session(clinic) as session:
        cached = None if before else session.get_one(Patient, "p-1")
        with connected_as(clinic, ROLES.privacy_officer) as engine, Session(engine) as officer:
            forget(officer, "p-1", reason="request", base=Clinic)
            officer.commit()
        session.expire_all()
        if before:
            compacted(clinic, **where)
        if in_file and not before:
            for load in (
                lambda: session.get(Patient, "p-1", populate_existing=True),
                lambda: session.scalars(select(Patient)).all(),
            ):
                with pytest.raises(StreamArchivedError, match=r"compact\(\)"):
                    load()
            session.rollback()
            compacted(clinic)
        assert session.get_one(Patient, "p-1").name == "(forgotten)"
        assert cached is None or cached.name == "(forgotten)"
    with clinic.begin() as connection:  # as a backup, or an attacker, would bring it back
        connection.execute(snapshots.delete().where(snapshots.c.aggregate_id == "p-1"))
        if kept and not before:
            connection.execute(snapshots.insert(), [dict(each) for each in kept])
    with Session(clinic) as session:
        if in_file:
            with pytest.raises(StreamArchivedError):
                session.get(Patient, "p-1")
        else:
            assert session.get_one(Patient, "p-1").name == "(forgotten)"
    compacted(clinic)
    moved(clinic, unarchive)
    with Session(clinic) as session:
        assert session.get_one(Patient, "p-1").name == "(forgotten)"
    assert "Annabelle" not in everything_stored(clinic)


def test_who_may_not_see_personal_data_keeps_no_state_of_placeholders(clinic: Engine, tmp_path: Path) -> None:
    masked = clinic.execution_options(personal_data="masked")
    with pytest.raises(ArchiveError, match="not to see personal data"):
        compacted(masked, directory=tmp_path)
    moved(clinic, archive)
    compacted(masked)
    with Session(clinic) as session:
        assert session.get_one(Patient, "p-1").name == "Annabelle"
    with clinic.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM snapshots WHERE aggregate_id = 'p-1'")) == 0


# --- tenants ---


OWNERS = own_roles("archives")
"""Each test drops them: they own tables."""


class Clinics(DeclarativeBase):
    __eventsource__ = EventSourceOptions(tenants=True, roles=OWNERS, archives="archives", master_keys=MASTER_KEYS)


class TenantsPatient(AnyPatient, Clinics):
    __aggregate_type__ = "archives.TenantsPatient"


grant_with_tables(Clinics)


@pytest.fixture
def clinics(postgres_engine: Engine) -> Iterator[Engine]:
    """A patient "1" of each of two tenants, and an engine of a plain role that owns the tables."""
    Clinics.metadata.create_all(postgres_engine)
    owner = OWNERS.privacy_officer
    with postgres_engine.begin() as connection:
        for table in Clinics.metadata.tables:
            connection.exec_driver_sql(f"ALTER TABLE {table} OWNER TO {owner}")
    engine = engine_as(postgres_engine, owner)
    for tenant in ("alpha", "beta"):
        with session_of(engine, tenant) as session:
            patient = TenantsPatient.admit("1", tenant)
            patient.close_stream("discharged")
            session.add(patient)
            session.commit()
    yield engine
    engine.dispose()
    drop_roles(postgres_engine, *OWNERS.names())


def test_a_tenants_stream_is_archived_and_another_tenants_of_the_same_id_stays(clinics: Engine) -> None:
    with session_of(clinics, "alpha") as session:
        archive(session, TenantsPatient, "1", reason="r")
        session.commit()
        with pytest.raises(StreamArchivedError):
            session.get(TenantsPatient, "1")
    with session_of(clinics, "beta") as session:
        assert session.get_one(TenantsPatient, "1").name == "beta"
        assert archived_streams(session, base=Clinics) == []
        archive(session, TenantsPatient, "1", reason="r")
        session.commit()
    with session_of(clinics, "alpha") as session:
        unarchive(session, TenantsPatient, "1", reason="r")
        session.commit()
        assert session.get_one(TenantsPatient, "1").name == "alpha"
        assert len(EventStore(session, Clinics).events.all()) == 2
    with session_of(clinics, "beta") as session, pytest.raises(StreamArchivedError):
        session.get(TenantsPatient, "1")


def test_a_tenants_stream_is_compacted_and_another_tenants_of_the_same_id_is_not(clinics: Engine) -> None:
    with session_of(clinics, "alpha") as session:
        compact(session, TenantsPatient, "1", reason="r")
        session.commit()
    with session_of(clinics, "beta") as session:
        archive(session, TenantsPatient, "1", reason="r")
        session.commit()
        assert session.scalars(select(TenantsPatient)).all() == []
        with pytest.raises(StreamArchivedError) as caught:
            session.get(TenantsPatient, "1")
        assert not caught.value.is_compacted
    for lost in (False, True):
        with session_of(clinics, "alpha") as session:
            assert [each.name for each in session.scalars(select(TenantsPatient))] == ["alpha"]
            session.execute(Clinics.metadata.tables["snapshots"].delete())
            session.commit()
            assert session.get_one(TenantsPatient, "1").name == "alpha", lost


def test_tenants_have_files_of_their_own(clinics: Engine, tmp_path: Path) -> None:
    for tenant in ("alpha", "beta"):
        with session_of(clinics, tenant) as session:
            archive(session, TenantsPatient, "1", reason="r", directory=tmp_path)
            session.commit()
    assert len(list(tmp_path.iterdir())) == 2
    with session_of(clinics, "alpha") as session:
        assert len(archived_streams(session, base=Clinics)) == 1
        with pytest.raises(DeclarationError, match="tenants share"):
            unneeded_archive_files(session, tmp_path, base=Clinics)
        unarchive(session, TenantsPatient, "1", reason="r")
        session.commit()
        assert session.get_one(TenantsPatient, "1").name == "alpha"
    with session_of(clinics, "beta") as session, pytest.raises(StreamArchivedError):
        session.get(TenantsPatient, "1")


# --- the command line ---

SHOP = "tests.ending.tills:Base"


@pytest.fixture
def shop(engine: Engine) -> Engine:
    Shop.metadata.create_all(engine)
    sell(engine, "t-1", "pen", "ink")
    sell(engine, "t-2", "pen")
    sell(engine, "t-3", "map", close=False)
    follow_all(engine)
    return engine


def test_what_no_archive_can_be_asked_for_is_a_wrong_call(shop: Engine) -> None:
    assert "write a text" in fail("archive", SHOP, "archiving.Till", "t-1", "--reason", "", engine=shop, status=2)
    message = fail("archive", SHOP, "archiving.Till", "t-1", "", "--reason", "season", engine=shop, status=2)
    assert message == "'' cannot be an id of archiving.Till: it is empty"
    assert succeed("archived", SHOP, "--json", engine=shop).output == ""  # the ids are read before the first is archived


def test_the_command_line_archives_lists_and_brings_back(shop: Engine) -> None:
    options = ("--reason", "season", "--user", "ann")
    said = succeed("archive", SHOP, "archiving.Till", "t-1", "t-2", *options, "--dry-run", engine=shop)
    assert "2 streams would be archived" in said.stderr
    assert succeed("archived", SHOP, "--json", engine=shop).output == ""
    assert succeed("archived", SHOP, engine=shop).output == "there is no archived stream\n"
    said = succeed("archive", SHOP, "archiving.Till", "t-1", "t-2", *options, engine=shop)
    assert "2 streams archived" in said.stderr
    assert "archiving_labels has @handles methods: run sa-eventsource rebuild" in said.stderr
    lines = [json.loads(line) for line in succeed("archived", SHOP, "--json", engine=shop).stdout.splitlines()]
    assert [(line["aggregate_id"], line["events"], line["reason"], line["metadata"]) for line in lines] == [
        ("t-1", 3, "season", {"user": "ann"}),
        ("t-2", 2, "season", {"user": "ann"}),
    ]
    assert "archived: 2 streams" in succeed("verify", SHOP, engine=shop).stdout
    assert "is archived" in fail("show", SHOP, "archiving.Till", "t-1", engine=shop, status=1)
    succeed("unarchive", SHOP, "archiving.Till", "t-1", *options, "--json", engine=shop)
    assert "back in the log since" in succeed("archived", SHOP, "--returned", engine=shop).stdout
    assert "archiving.Till t-2: 2 events in archived_events" in succeed("archived", SHOP, engine=shop).stdout
    assert "pen" in succeed("show", SHOP, "archiving.Till", "t-1", engine=shop).stdout


def test_the_command_line_says_why_not(shop: Engine) -> None:
    assert "close_stream" in fail("archive", SHOP, "archiving.Till", "t-3", "--reason", "r", engine=shop, status=1)
    assert "not archived" in fail("unarchive", SHOP, "archiving.Till", "t-1", "--reason", "r", engine=shop, status=1)
    assert "archiving.Till" in fail("archive", SHOP, "Nothing", "t-3", "--reason", "r", engine=shop, status=2)
    assert call("archive", SHOP, "archiving.Till", "t-1", engine=shop).exit_code == 2  # without a reason
    assert "archives=" in fail("archived", "tests.orders:Base", engine=shop, status=1)
