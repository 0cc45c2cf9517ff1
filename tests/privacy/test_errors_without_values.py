"""What errors say, and what is kept of them, quotes no personal value; a misspelt option does not show one either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from pydantic import field_validator
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventDecodeError,
    EventPayloadError,
    EventSourceOptions,
    Personal,
    ProcessManager,
    ReadModel,
    RecordedEvent,
    RetryPolicy,
    SnapshotWarning,
    Worker,
    applies,
    evolves,
    map_from_event,
    reacts,
    upcast,
)
from sa_eventsource.events import decode
from sa_eventsource.projections.failures import error_text
from sa_eventsource.store import message_of
from tests.browser.visiting import browser_of
from tests.clinic import Admitted, AnyPatient
from tests.privacy.keys import MASTER_KEYS

SECRET = "Ann Secret"
BORN = datetime(1977, 5, 6, tzinfo=UTC)


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS, commands="commands")


class Patient(AnyPatient, Base):
    __aggregate_type__ = "errors_without_values.Patient"


class Directory(ReadModel, Base):
    __tablename__ = "patients_without_values"
    __projection_name__ = "patients_without_values"
    __personal_data__ = "clear"

    id: Mapped[str] = map_from_event(Admitted, key=True, source="aggregate_id")
    name: Mapped[str] = map_from_event(Admitted)


class Wards(ReadModel, Base):
    """A model whose method gives a name where a number is held."""

    __projection_name__ = "wards_without_values"
    __personal_data__ = "clear"

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    beds: Mapped[int | None]

    @evolves(Admitted)
    def _admitted(self, recorded: RecordedEvent[Admitted]) -> None:
        self.beds = recorded.event.name  # type: ignore[assignment]


class Stay(ProcessManager[str], Base):
    """A process that returns a name, and no command."""

    __aggregate_type__ = "errors_without_values.Stay"

    @reacts(Admitted)
    def on_admission(self, event: Admitted) -> list[object]:
        return [event.name]


class Weighed(DomainEvent):
    """An event whose class refuses a value in words of its own."""

    __event_type__ = "errors_without_values.Weighed"
    __event_version__ = 2

    born: Annotated[datetime | None, Personal(subject="person_id")]
    note: Annotated[str | None, Personal(subject="person_id")]
    person_id: str

    @field_validator("note")
    @classmethod
    def _is_short(cls, note: str | None) -> str | None:
        if note is not None and len(note) > 5:
            raise ValueError(f"{note} is too long")
        return note


@upcast(Weighed, from_version=1)
def weighed_before(payload: dict[str, Any]) -> dict[str, Any]:
    return [payload]  # type: ignore[return-value]


class Scale(AggregateRoot, Base):
    __aggregate_type__ = "errors_without_values.Scale"
    __ignored_events__ = (Weighed,)


class Chart(AggregateRoot, Base):
    """An aggregate whose state does not fit its annotation."""

    __aggregate_type__ = "errors_without_values.Chart"
    __snapshot_frequency__ = 1

    beds: int = 0
    name: int | None = None

    @applies(Admitted)
    def _admitted(self, event: Admitted) -> None:
        self.name = event.name  # type: ignore[assignment]


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def engine(postgres_engine: Engine) -> Engine:
    with Session(postgres_engine) as session:
        session.add(Patient.admit("p-1", SECRET))
        session.commit()
    return postgres_engine


def kept_errors(engine: Engine) -> Iterator[str]:
    with engine.connect() as connection:
        for table in ("projection_positions", "parked_events"):
            yield from connection.scalars(text(f"SELECT error FROM {table} WHERE error IS NOT NULL"))


def test_an_event_that_does_not_fit_its_class_is_kept_without_its_values() -> None:
    with pytest.raises(ValueError, match="bed") as caught:
        Admitted.model_validate_json(f'{{"name": "x", "person_id": "p-1", "bed": "{SECRET}"}}')
    kept = error_text(caught.value)
    assert "int_parsing" in kept
    assert SECRET not in kept


def test_a_row_that_the_database_refuses_is_kept_without_its_values(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE patients_without_values ADD CHECK (length(name) < 5)")
    Worker(engine, Base, only=["patients_without_values"], retries=RetryPolicy(attempts=1)).run_once()
    (kept,) = kept_errors(engine)
    assert "INSERT INTO patients_without_values" in kept
    assert "parameters hidden" in kept


@pytest.mark.parametrize("value", [[SECRET], b"\xff" + SECRET.encode()])
def test_an_event_that_cannot_be_written_is_refused_without_its_value(value: object) -> None:
    with pytest.raises(EventPayloadError, match=r"Admitted\.name") as caught:
        Patient(id="p-2").apply_event(Admitted.model_construct(name=value, person_id="p-2"))
    assert SECRET not in error_text(caught.value)


@pytest.mark.parametrize("chosen", ["maskd", "MASKED", False])
def test_a_misspelt_option_is_refused(engine: Engine, chosen: object) -> None:
    with Session(engine.execution_options(personal_data=chosen)) as session, pytest.raises(TypeError, match="neither"):
        session.get(Patient, "p-1")


def test_the_option_of_a_statement_is_refused(engine: Engine) -> None:
    with Session(engine) as session:
        with pytest.raises(TypeError, match="no option of a statement"):
            session.get(Patient, "p-1", execution_options={"personal_data": "masked"})
        with pytest.raises(TypeError, match="no option of a statement"):
            session.scalars(select(Patient).execution_options(personal_data="masked"))


def test_what_is_logged_of_a_rebuild_that_fails_in_the_browser_has_no_parameters(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE patients_without_values DROP COLUMN name")
    browser = browser_of(Base, engine)
    definition = browser.source.tables.read_models["patients_without_values"]
    assert browser.rebuilds.begin(definition, None).wait(60)
    assert "INSERT INTO patients_without_values" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("made", [error_text, message_of])
def test_what_is_said_of_a_statement_that_was_not_sent_has_no_parameters(made: Callable[[Exception], str]) -> None:
    said = made(StatementError("a value is missing", "INSERT", {"name": SECRET}, ValueError("no value for ward")))
    assert "ValueError: no value for ward" in said
    assert SECRET not in said


def test_a_value_that_its_validator_refuses_is_refused_without_what_that_says() -> None:
    event = Weighed.model_construct(born=BORN, note=SECRET, person_id="p-1")
    with pytest.raises(EventPayloadError, match=r"Weighed\.note.*value_error") as caught:
        Scale(id="s-1").apply_event(event)
    assert SECRET not in error_text(caught.value)
    stored = f'{{"born": null, "note": "{SECRET}", "person_id": "p-1"}}'
    with pytest.raises(EventDecodeError, match="note: value_error") as unreadable:
        decode("errors_without_values.Weighed", 2, stored)
    assert unreadable.value.fields == ("note",)
    assert SECRET not in error_text(unreadable.value)


def test_a_time_without_a_zone_is_refused_without_its_value() -> None:
    with pytest.raises(EventPayloadError, match=r"Weighed\.born: it has no time zone") as caught:
        Scale(id="s-1").apply_event(Weighed(born=BORN.replace(tzinfo=None), note="", person_id="p-1"))
    assert "1977" not in error_text(caught.value)


def test_what_an_upcaster_gives_is_refused_without_its_values() -> None:
    with pytest.raises(EventDecodeError, match="returned a list of dict instead of") as caught:
        decode("errors_without_values.Weighed", 1, f'{{"note": "{SECRET}"}}')
    assert SECRET not in error_text(caught.value)


def test_what_a_row_cannot_hold_is_kept_without_its_value(engine: Engine) -> None:
    Worker(engine, Base, only=["wards_without_values"], retries=RetryPolicy(attempts=1)).run_once()
    (kept,) = kept_errors(engine)
    assert "cannot hold a value of type str" in kept
    assert SECRET not in kept


def test_what_a_process_manager_returns_is_kept_without_its_value(engine: Engine) -> None:
    Worker(engine, Base, only=["errors_without_values.Stay"], retries=RetryPolicy(attempts=1)).run_once()
    (kept,) = kept_errors(engine)
    assert "returned a value of type str" in kept
    assert SECRET not in kept


def test_a_snapshot_that_is_not_written_is_warned_of_without_its_values(engine: Engine) -> None:
    chart = Chart(id="c-1")
    chart.apply_event(Admitted(name=SECRET, person_id="p-1"))
    with Session(engine) as session, pytest.warns(SnapshotWarning, match="field 'name' does not fit") as caught:
        session.add(chart)
        session.commit()
    assert SECRET not in str(caught[0].message)
