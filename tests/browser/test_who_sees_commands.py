"""Commands, processes, publishers and the schema, where tenants share the tables and events have personal data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import pytest
from faststream.rabbit import RabbitBroker
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    After,
    AggregateRoot,
    Command,
    DomainEvent,
    EventSourceOptions,
    Personal,
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
from tests.privacy.keys import MASTER_KEYS

ROLES = Roles(app="lodge_app", worker="lodge_worker", reader="lodge_reader", privacy_officer="lodge_privacy")


class Base(DeclarativeBase):
    """A base whose tables tenants share, and whose events have personal data."""

    __eventsource__ = EventSourceOptions(tenants=True, roles=ROLES, commands="commands", master_keys=MASTER_KEYS)


class GuestArrived(DomainEvent):
    """A guest is there."""

    __event_type__ = "lodge.GuestArrived"
    guest_id: str
    name: Annotated[str, Personal(subject="guest_id", placeholder="(hidden)")]


class Guest(AggregateRoot[str], Base):
    """A guest."""

    __aggregate_type__ = "lodge.Guest"
    __ignored_events__ = (GuestArrived,)


class StayBegun(DomainEvent):
    """A guest stays."""

    __event_type__ = "lodge.StayBegun"


class Welcome(Command[None]):
    """Say hello."""

    __command_type__ = "lodge.Welcome"
    name: str


@command_handler(Welcome, base=Base)
def welcome(command: Welcome, session: Session) -> None:
    """Be shy."""
    raise ValueError(f"who is {command.name}?")


class Stay(ProcessManager[str], Base):
    """What a guest is offered."""

    __aggregate_type__ = "lodge.Stay"
    is_begun: bool = False

    @reacts(GuestArrived)
    def on_arrival(self, event: GuestArrived) -> list[object]:
        return [StayBegun(), After(timedelta(days=1), Welcome(name=event.name), key=event.name)]

    @applies(StayBegun)
    def _begun(self, event: StayBegun) -> None:
        self.is_begun = True


Publisher("lodge.publisher", GuestArrived, broker=RabbitBroker("amqp://127.0.0.1:1/"), base=Base)

PAGES = (
    "/processes",
    "/processes/one?name=lodge.Stay",
    "/processes/instance?name=lodge.Stay&id=guest of beta",
    "/commands",
    "/commands?status=parked",
    "/subscriptions",
    "/subscriptions/one?name=lodge.publisher",
    "/schema",
    "/schema/event?type=lodge.GuestArrived",
)


@pytest.fixture
def lodge(postgres_engine: Engine) -> Iterator[Engine]:
    """A database in which two tenants have a guest each, whom a process welcomes tomorrow, and a command that failed."""
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
    writer = as_role(postgres_engine, ROLES.app)
    for tenant, name in (("alpha", "Adalbert"), ("beta", "Wilhelmina")):
        with Session(writer, info={"sa_eventsource.tenant": tenant}) as session:
            guest = Guest(id=f"guest of {tenant}")
            guest.apply_event(GuestArrived(guest_id=guest.id, name=name))
            session.add(guest)
            schedule(session, Welcome(name=name), base=Base)
            session.commit()
    writer.dispose()
    worker = as_role(postgres_engine, ROLES.worker)
    for only in ("lodge.Stay", "commands"):
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


def test_pages_show_one_tenant_and_nobody_personal_data_who_may_not_see_it(lodge: Engine) -> None:
    reader = as_role(lodge, ROLES.reader)
    app = browser(reader)
    for path in PAGES:
        answer = visit(app, f"{path}{'&' if '?' in path else '?'}tenant=beta")
        assert answer.status_code == 200, (path, answer.text)
        assert not re.search("Wilhelmina|Adalbert|guest of alpha", answer.text), path
        content = answer.text.partition('id="content"')[2]
        links = re.findall(r'href="(/[^"#]*)"', content)
        assert (len(links) > 0, [each for each in links if "tenant=beta" not in each]) == (True, []), path
    assert "guest of beta" in visit(app, "/processes/one?name=lodge.Stay&tenant=beta").text
    assert visit(app, "/processes/instance?name=lodge.Stay&id=guest of beta&tenant=alpha").status_code == 404
    (command,) = re.findall(r'"(/commands/[0-9a-f-]{36}\?[^"]+)"', visit(app, "/commands?status=parked&tenant=beta").text)
    page = visit(app, command).text
    assert ("Wilhelmina" in page, "which you may not see" in page) == (False, True)
    assert visit(app, command.replace("beta", "alpha")).status_code == 404
    reader.dispose()


def test_commands_are_shown_as_they_are_to_whom_may_see_personal_data(lodge: Engine) -> None:
    engine = as_role(lodge, ROLES.app)
    app = browser(engine, personal_data=True)
    parked = visit(app, "/commands?status=parked&tenant=beta").text
    assert "Wilhelmina" in parked
    (command,) = re.findall(r'"(/commands/[0-9a-f-]{36}\?[^"]+)"', parked)
    assert "who is Wilhelmina?" in visit(app, command).text
    engine.dispose()
