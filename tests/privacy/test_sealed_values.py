"""Personal data in the log: sealed, exact when it is read, bound to its place, and asked for with few statements."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    AggregateRoot,
    AsyncEventStore,
    DeclarationError,
    DomainEvent,
    EventAlreadyAppendedError,
    EventContext,
    EventIdConflictError,
    EventPayloadError,
    EventSourcedRepository,
    EventSourceOptions,
    EventStore,
    applies,
    event_context,
    upcast,
)
from sa_eventsource.events import Personal
from sa_eventsource.exceptions import SealedValueError
from tests.clinic import AnyPatient, Discharged
from tests.events.boxes import same
from tests.events.kinds_of_fields import kinds
from tests.privacy.keys import MASTER_KEYS
from tests.privacy.searching import what_is_sent

_numbers = itertools.count()


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS)


class Line(BaseModel):
    sku: str
    note: Annotated[str | None, Personal(subject="customer_id")] = None


class Registered(DomainEvent):
    __event_type__ = "sealed_values.Registered"

    customer_id: str
    email: Annotated[str, Personal(subject="customer_id", placeholder="(forgotten)")]
    lines: list[Line] = []
    by_day: dict[str, list[Line]] = {}
    clerk: Annotated[str | None, Personal(subject="metadata.user")] = None


class Customer(AggregateRoot, Base):
    """Has events of any class, also of those that are made up."""

    __aggregate_type__ = "sealed_values.Customer"

    email: str = ""

    @applies(Registered)
    def _registered(self, event: Registered) -> None:
        self.email = event.email

    @applies(DomainEvent)
    def _any(self, _event: DomainEvent) -> None: ...


class Patient(AnyPatient, Base):
    __aggregate_type__ = "sealed_values.Patient"


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


def register(session: Session, **values: Any) -> Customer:
    customer = Customer()
    customer.apply_event(Registered(**{"customer_id": "c-1", "email": "ann@example.com", **values}))
    session.add(customer)
    session.commit()
    return customer


def stored(session: Session) -> list[Any]:
    rows = session.execute(text("SELECT CAST(event_data AS TEXT) FROM events ORDER BY version")).scalars()
    return [json.loads(each) for each in rows]


def test_the_log_holds_no_personal_data_and_the_application_has_it(session: Session) -> None:
    with event_context(user="clerk-7"):
        customer = register(
            session,
            lines=[Line(sku="a", note="ring twice"), Line(sku="b")],
            by_day={"mon": [Line(sku="c", note="gift")]},
            clerk="Bob",
        )
    (payload,) = stored(session)
    assert payload["customer_id"] == "c-1"
    assert [each["sku"] for each in payload["lines"]] == ["a", "b"]
    assert payload["email"].keys() == {"$sealed", "placeholder"}
    assert payload["lines"][1]["note"].keys() == {"$sealed"}, "whether there is a note is personal too"
    assert not {"ann@example.com", "ring twice", "gift", "Bob"} & set(json.dumps(payload).split('"'))
    session.expire_all()
    assert customer.email == "ann@example.com"
    (found,) = EventStore(session, Customer).events.of_type(Registered).all()
    assert found.event == Registered(
        customer_id="c-1",
        email="ann@example.com",
        lines=[Line(sku="a", note="ring twice"), Line(sku="b")],
        by_day={"mon": [Line(sku="c", note="gift")]},
        clerk="Bob",
    )
    assert EventSourcedRepository(session, Customer).load_at_version(customer.id, 1).email == "ann@example.com"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(kind=kinds())
def test_a_personal_value_of_any_type_comes_back_as_it_was_or_is_refused(engine: Engine, kind: tuple[Any, Any]) -> None:
    annotation, value = kind
    event_class = declared(annotation, value)
    if event_class is None:
        return
    try:
        given_event = event_class.model_validate({"who": "c-1", "value": value})
    except (ValidationError, ValueError, TypeError, ArithmeticError):
        return
    customer = Customer()
    try:
        customer.apply_event(given_event)
    except (EventPayloadError, DeclarationError):
        return
    with Session(engine) as session:
        session.add(customer)
        session.commit()
        (found,) = EventStore(session, Customer).events.of(Customer, customer.id).all()
        assert same(found.event, given_event)
        raw = session.execute(
            text("SELECT CAST(event_data AS TEXT) FROM events WHERE aggregate_id = :id"), {"id": customer.id}
        ).scalar_one()
        assert "$sealed" in json.loads(raw)["value"]


def declared(annotation: Any, value: Any) -> type[DomainEvent] | None:
    """Declare an event with a personal field of a type; None if Pydantic knows no such field, or nothing can stand for it."""
    name = f"GeneratedPersonal{next(_numbers)}"
    for given_type, personal in (
        (annotation, Personal(subject="who", placeholder=value)),
        (annotation | None if hasattr(annotation, "__or__") else annotation, Personal(subject="who")),
    ):
        body = {"__annotations__": {"who": str, "value": Annotated[given_type, personal]}, "__module__": __name__}
        try:
            return type(name, (DomainEvent,), {**body, "__qualname__": name})
        except (PydanticSchemaGenerationError, PydanticUserError, TypeError):
            return None
        except DeclarationError:
            continue
    return None


def test_the_event_that_is_applied_has_what_is_personal_at_once(session: Session) -> None:
    session.add(patient := Patient.admit("p-1", "Ann"))
    assert patient.name == "Ann"
    session.flush()
    assert patient.name == "Ann"


def test_an_event_without_a_subject_is_refused_before_anything_is_written(session: Session) -> None:
    customer = Customer()
    customer.apply_event(Registered(customer_id="", email="ann@example.com"))
    session.add(customer)
    with pytest.raises(EventPayloadError, match="customer_id is to say whose data it is, and is ''"):
        session.commit()
    session.rollback()
    assert stored(session) == []


def test_a_mark_in_the_data_is_refused(session: Session) -> None:
    customer = Customer()
    customer.apply_event(Registered(customer_id="c-1", email="x", by_day={"$sealed": []}))
    session.add(customer)
    with pytest.raises(EventPayloadError, match="marks sealed values"):
        session.commit()


def test_a_base_without_master_keys_takes_no_personal_data(engine: Engine) -> None:
    class Bare(DeclarativeBase):
        pass

    class BarePatient(AnyPatient, Bare):
        __aggregate_type__ = "sealed_values.BarePatient"

    assert "subject_keys" not in Bare.metadata.tables
    with Session(engine) as session:
        session.add(BarePatient.admit("p-1", "Ann"))
        with pytest.raises(DeclarationError, match="has no master keys"):
            session.commit()
        session.rollback()
        assert stored(session) == []


def test_a_value_that_was_changed_or_moved_is_found(session: Session) -> None:
    """By somebody who may switch the trigger off."""
    customer = register(session, customer_id="c-1", lines=[Line(sku="a", note="one"), Line(sku="b", note="two")])
    (payload,) = stored(session)
    first, second = payload["lines"]
    broken = payload["email"]["$sealed"][:-8] + "AAAAAAA="
    for changed, field in (
        ({**payload, "email": {**payload["email"], "$sealed": broken}}, "email"),
        ({**payload, "lines": [{**first, "note": second["note"]}, second]}, "lines.0.note"),
        ({**payload, "email": {**first["note"], "placeholder": ""}}, "email"),
        ({**payload, "email": {"$sealed": "nonsense"}}, ""),
        ({**payload, "email": {"$sealed": f"{uuid4().hex}.AAAA"}}, "email"),
    ):
        overwrite(session, changed)
        with pytest.raises(SealedValueError) as caught:
            session.get(Customer, customer.id, populate_existing=True)
        assert field in caught.value.fields or not field
        assert isinstance(caught.value.event_id, UUID)
        session.rollback()


def overwrite(session: Session, payload: dict[str, Any]) -> None:
    """Write what no application may."""
    sqlite = session.get_bind().dialect.name == "sqlite"
    if sqlite:
        (name,) = session.execute(
            text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events' AND name LIKE '%update%'")
        ).scalars()
        session.execute(text(f'DROP TRIGGER "{name}"'))
    else:
        session.execute(text("ALTER TABLE events DISABLE TRIGGER ALL"))
    session.execute(
        text("UPDATE events SET event_data = " + (":data" if sqlite else "CAST(:data AS jsonb)")), {"data": json.dumps(payload)}
    )


def test_a_repeated_append_is_known_again_though_no_two_are_sealed_alike(session: Session) -> None:
    repository = EventSourcedRepository(session, Customer)
    event_id = uuid4()
    happened = Registered(customer_id="c-1", email="ann@example.com")
    repository.append("x", [happened], expected_version=0, event_ids=[event_id])
    session.commit()
    with pytest.raises(EventAlreadyAppendedError):
        repository.append("x", [happened], expected_version=0, event_ids=[event_id])
    session.rollback()
    with pytest.raises(EventIdConflictError) as caught:
        repository.append("x", [happened.model_copy(update={"email": "bob@example.com"})], expected_version=0, event_ids=[event_id])
    assert caught.value.differences == ("event_data",)


class OpenedV2(DomainEvent):
    __event_type__ = "sealed_values.Opened"
    __event_version__ = 2

    holder: Annotated[str, Personal(subject="aggregate_id", placeholder="-")]
    mail: Annotated[str, Personal(subject="aggregate_id", placeholder="-")] = ""


@upcast("sealed_values.Opened", from_version=1)
def _opened(payload: dict[str, Any]) -> dict[str, Any]:
    return {"holder": payload["name"], "mail": ""}


def test_events_from_before_a_field_was_personal_are_read_as_they_are(session: Session) -> None:
    columns = "event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, occurred_at, position"
    data = "'sealed_values.Opened', 1, '{\"name\": \"Ann\"}', '2024-01-01 00:00:00', 1000"
    session.execute(
        text(f"INSERT INTO events ({columns}) VALUES (:id, :type, 'a', 1, {data})"),
        {"id": uuid4().hex, "type": "sealed_values.Customer"},
    )
    repository = EventSourcedRepository(session, Customer)
    repository.append("a", [OpenedV2(holder="Ann B.", mail="a@b")], expected_version=1)
    session.commit()
    found = [each.event for each in sorted(EventStore(session, Customer).events.of(Customer, "a"), key=lambda each: each.version)]
    assert found == [OpenedV2(holder="Ann", mail=""), OpenedV2(holder="Ann B.", mail="a@b")]


def test_what_it_costs_in_statements(
    engine: Engine, session: Session, statements: Callable[[Engine], AbstractContextManager[list[str]]]
) -> None:
    customer = register(session)
    other = Customer()
    session.add(other)
    other.apply_event(Registered(customer_id="c-1", email="2"))
    customer.apply_event(Registered(customer_id="c-1", email="3"))
    with statements(engine) as log:
        session.commit()
    of_keys = [each for each in log if "subject_keys" in each and not each.startswith("UPDATE")]
    is_known = engine.dialect.name == "postgresql"
    assert [("INSERT INTO" in each, each.startswith("SELECT")) for each in of_keys] == [(is_known, not is_known)]
    with statements(engine) as log:
        session.expire_all()
        session.query(Customer).all()
    assert len([each for each in log if "subject_keys" in each]) == 1
    with statements(engine) as log:
        customer.apply_event(Discharged())
        session.commit()
    assert [each for each in log if "subject_keys" in each] == []


def test_the_statements_hold_nothing_in_clear(engine: Engine, session: Session) -> None:
    sent = what_is_sent(engine)
    customer = register(session, email="ann@example.com")
    session.expire_all()
    assert customer.email == "ann@example.com"
    assert [each for each in sent if "ann@example.com" in each] == []


def test_a_masked_engine_asks_for_no_key_and_reads_placeholders(
    engine: Engine, session: Session, statements: Callable[[Engine], AbstractContextManager[list[str]]]
) -> None:
    customer_id = register(session, lines=[Line(sku="a", note="one")]).id
    with statements(engine) as log, Session(engine.execution_options(personal_data="masked")) as masked:
        found = masked.get_one(Customer, customer_id)
        assert found.email == "(forgotten)"
        (recorded,) = EventStore(masked, Customer).events.of_type(Registered).all()
        assert recorded.event.lines == [Line(sku="a", note=None)]
    assert [each for each in log if "subject_keys" in each] == []


async def test_an_async_session_reads_and_writes_personal_data(async_engine: AsyncEngine) -> None:
    async with AsyncSession(async_engine) as session:
        for number in range(3):
            customer = Customer()
            customer.apply_event(Registered(customer_id="c-1", email=f"{number}@example.com"))
            session.add(customer)
        await session.commit()
        store = AsyncEventStore(session, Customer)
        emails = [each.event.email async for each in store.events.of_type(Registered).stream(batch_size=2)]
        assert emails == ["0@example.com", "1@example.com", "2@example.com"]


def test_the_metadata_of_the_session_names_a_subject(session: Session) -> None:
    session.info["event_context"] = EventContext(metadata={"user": "clerk-7"})
    register(session, clerk="Bob")
    subjects = session.execute(text("SELECT subject FROM subject_keys ORDER BY subject")).scalars().all()
    assert subjects == ["c-1", "clerk-7"]


def test_a_stream_with_personal_data_leaves_no_snapshot_in_clear(session: Session) -> None:
    session.add(patient := Patient.admit("p-1", "Annabelle"))
    session.commit()
    held = session.execute(text("SELECT CAST(state AS TEXT) FROM snapshots")).scalars().all()
    assert [each for each in held if "Annabelle" in each] == []
    session.expire_all()
    assert patient.name == "Annabelle"
