"""Commands, processes, publishers and the schema, where tenants share the tables and events have personal data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from faststream.rabbit import RabbitBroker
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    After,
    Command,
    DomainEvent,
    EventSourceOptions,
    ProcessManager,
    Publisher,
    RetryPolicy,
    Roles,
    Worker,
    applies,
    command_handler,
    create_roles,
    reacts,
    schedule,
)
from sa_eventsource.browser import Access, Browser
from tests.browser.visiting import browser_of, visit
from tests.clinic import Admitted, AnyPatient
from tests.privacy.keys import MASTER_KEYS

ROLES = Roles(app="ward_app", worker="ward_worker", reader="ward_reader", privacy_officer="ward_privacy")


class Base(DeclarativeBase):
    """A base whose tables tenants share, and whose events have personal data."""

    __eventsource__ = EventSourceOptions(tenants=True, roles=ROLES, commands="commands", master_keys=MASTER_KEYS)


class Patient(AnyPatient, Base):
    """A patient."""

    __aggregate_type__ = "ward.Patient"


class StayBegun(DomainEvent):
    """A patient stays."""

    __event_type__ = "ward.StayBegun"


class Welcome(Command[None]):
    """Say hello."""

    __command_type__ = "ward.Welcome"
    name: str


@command_handler(Welcome, base=Base)
def welcome(command: Welcome, session: Session) -> None:
    """Be shy."""
    raise ValueError(f"who is {command.name}?")


class Stay(ProcessManager[str], Base):
    """What a patient is offered."""

    __aggregate_type__ = "ward.Stay"
    is_begun: bool = False

    @reacts(Admitted)
    def on_arrival(self, event: Admitted) -> list[object]:
        return [StayBegun(), After(timedelta(days=1), Welcome(name=event.name), key=event.name)]

    @applies(StayBegun)
    def _begun(self, event: StayBegun) -> None:
        self.is_begun = True


Publisher("ward.publisher", Admitted, broker=RabbitBroker("amqp://127.0.0.1:1/"), base=Base)

PAGES = (
    "/processes",
    "/processes/one?name=ward.Stay",
    "/processes/instance?name=ward.Stay&id=patient of beta",
    "/commands",
    "/commands?status=parked",
    "/subscriptions",
    "/subscriptions/one?name=ward.publisher",
    "/schema",
    "/schema/event?type=clinic.Admitted",
)


@pytest.fixture
def ward(postgres_engine: Engine) -> Iterator[Engine]:
    """A database in which two tenants have a patient each, whom a process welcomes tomorrow, and a command that failed."""
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
    writer = as_role(postgres_engine, ROLES.app)
    for tenant, name in (("alpha", "Adalbert"), ("beta", "Wilhelmina")):
        with Session(writer, info={"sa_eventsource.tenant": tenant}) as session:
            session.add(Patient.admit(f"patient of {tenant}", name))
            schedule(session, Welcome(name=name), base=Base)
            session.commit()
    writer.dispose()
    worker = as_role(postgres_engine, ROLES.worker)
    for only in ("ward.Stay", "commands"):
        Worker(worker, Base, only=[only], retries=RetryPolicy(attempts=1)).run_once()
    worker.dispose()
    yield postgres_engine
    with postgres_engine.begin() as connection:
        for role in ROLES.names():
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))


def as_role(engine: Engine, role: str) -> Engine:
    """Make an engine of a role."""
    return create_engine(engine.url, connect_args={"options": f"-c role={role}"})


def browser(engine: Engine, **access: Any) -> Browser:
    """Make a browser for who sees both tenants."""
    return browser_of(Base, engine, authorize=lambda _request: Access(tenants=["alpha", "beta"], **access))


def test_pages_show_one_tenant_and_nobody_personal_data_who_may_not_see_it(ward: Engine) -> None:
    reader = as_role(ward, ROLES.reader)
    app = browser(reader)
    for path in PAGES:
        answer = visit(app, f"{path}{'&' if '?' in path else '?'}tenant=beta")
        assert answer.status_code == 200, (path, answer.text)
        assert not re.search("Wilhelmina|Adalbert|patient of alpha", answer.text), path
        content = answer.text.partition('id="content"')[2]
        links = re.findall(r'href="(/[^"#]*)"', content)
        assert (len(links) > 0, [each for each in links if "tenant=beta" not in each]) == (True, []), path
    assert "patient of beta" in visit(app, "/processes/one?name=ward.Stay&tenant=beta").text
    assert visit(app, "/processes/instance?name=ward.Stay&id=patient of beta&tenant=alpha").status_code == 404
    (command,) = re.findall(r'"(/commands/[0-9a-f-]{36}\?[^"]+)"', visit(app, "/commands?status=parked&tenant=beta").text)
    page = visit(app, command).text
    assert ("Wilhelmina" in page, "which you may not see" in page) == (False, True)
    assert visit(app, command.replace("beta", "alpha")).status_code == 404
    reader.dispose()


def test_commands_are_shown_as_they_are_to_whom_may_see_personal_data(ward: Engine) -> None:
    engine = as_role(ward, ROLES.app)
    app = browser(engine, personal_data=True)
    parked = visit(app, "/commands?status=parked&tenant=beta").text
    assert "Wilhelmina" in parked
    (command,) = re.findall(r'"(/commands/[0-9a-f-]{36}\?[^"]+)"', parked)
    assert "who is Wilhelmina?" in visit(app, command).text
    engine.dispose()
