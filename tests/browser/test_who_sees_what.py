"""Personal data, tenants and actions: what a reader gets follows from what ``authorize`` allows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.requests import Request
from starlette.responses import Response

from sa_eventsource import (
    EventSourceOptions,
    ProcessManager,
    ReadModel,
    RecordedEvent,
    Roles,
    create_roles,
    evolves,
    handles,
    map_from_event,
    reacts,
)
from sa_eventsource.browser import Access, Browser, OtherCode
from sa_eventsource.browser.page import Address, Page, Visit
from sa_eventsource.browser.pages import PAGES, follower_actions
from sa_eventsource.exceptions import ReadModelError
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.replays import replay_here
from sa_eventsource.workers import Worker
from tests.bank import AnyAccount, Opened
from tests.browser.visiting import browser_of, send, visit
from tests.clinic import Admitted, AnyPatient
from tests.committing import commit_events
from tests.orders import Base as Orders
from tests.privacy.keys import MASTER_KEYS

ROLES = Roles(app="browser_app", worker="browser_worker", reader="browser_reader", privacy_officer="browser_privacy")


class Base(DeclarativeBase):
    """A base whose tables tenants share."""

    __eventsource__ = EventSourceOptions(tenants=True, roles=ROLES)


class Account(AnyAccount, Base):
    """An account."""


@pytest.fixture
def reader(postgres_engine: Engine) -> Iterator[Engine]:
    """An engine of the reader's role, over the accounts of two tenants."""
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
    writer = create_engine(postgres_engine.url, connect_args={"options": "-c role=browser_app"})
    for tenant, owner in (("alpha", "ann"), ("beta", "bob")):
        with Session(writer, info={"sa_eventsource.tenant": tenant}) as session:
            account = Account(id="1")
            account.apply_event(Opened(owner=owner))
            session.add(account)
            session.commit()
    writer.dispose()
    engine = create_engine(postgres_engine.url, connect_args={"options": "-c role=browser_reader"})
    yield engine
    engine.dispose()
    with postgres_engine.begin() as connection:
        for role in ROLES.names():
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))


def test_a_tenant_is_chosen_among_those_that_are_allowed(reader: Engine) -> None:
    both = Browser(Base, reader, authorize=lambda _request: Access(tenants=["alpha", "beta"]))
    for path, owner in (("/log", "ann"), ("/log?tenant=beta", "bob"), ("/stream?type=Account&id=1&tenant=beta", "bob")):
        page = visit(both, path).text
        assert set(re.findall("&#34;(ann|bob)&#34;", page)) == {owner}
    links = re.findall(r'href="(/(?:log|stream|events)[^"]*)"', visit(both, "/log?tenant=beta").text)
    assert len(links) > 3
    assert [each for each in links if "tenant=beta" not in each] == []
    (event,) = {each.partition("?")[0] for each in links if each.startswith("/events/")}
    causation = visit(both, f"{event}/causation?tenant=beta").text
    assert [
        each for each in re.findall(r'href="(/(?:log|stream|events|correlation)[^"]*)"', causation) if "tenant=beta" not in each
    ] == []
    assert visit(both, f"{event}/causation?tenant=alpha").status_code == 404
    one = Browser(Base, reader, authorize=lambda _request: Access(tenants=["alpha"]))
    assert visit(one, "/log?tenant=beta").status_code == 403
    none = Browser(Base, reader, authorize=lambda _request: Access())
    assert visit(none, "/log").status_code == 403


def test_other_code_is_given_the_events_of_the_chosen_tenant(reader: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def compare(_code: OtherCode, _name: str, history: Any, shown: range) -> Any:
        given.extend(history.payloads)
        return (replay_here(history, shown, seconds=60),) * 2

    monkeypatch.setattr(OtherCode, "compare", compare)
    code = OtherCode("accounts:Base", ["main"])
    access = Access(tenants=["alpha", "beta"], other_code=True)
    app = Browser(Base, reader, authorize=lambda _request: access, other_code=code)
    page = visit(app, "/stream/code?type=Account&id=1&code=main&tenant=beta").text
    assert [re.findall("ann|bob", each) for each in given] == [["bob"]]
    links = re.findall(r'href="(/(?:log|stream|events)[^"]*)"', page)
    assert len(links) > 3
    assert [each for each in links if "tenant=beta" not in each] == []
    assert '<input type="hidden" name="tenant" value="beta">' in page


@pytest.fixture
def with_action(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Forms that an action was sent, whose page is added to the others."""
    sent: list[dict[str, str]] = []

    def show(visit: Visit) -> Response:
        return visit.render("failure.html", heading="Form", message="", is_admitted=False)

    def act(visit: Visit) -> Response:
        sent.append(visit.form)
        return visit.go_to("form")

    page = Page(addresses=(Address("form", "/form", show), Address("act", "/act", act, action=True)))
    monkeypatch.setattr("sa_eventsource.browser.application.PAGES", (*PAGES, page))
    return sent


def allowed(request: Request) -> Access:
    """Let all act."""
    return Access(actions=True)


@pytest.fixture
def orders(postgres_engine: Engine) -> Engine:
    """An engine on a database with the tables of orders."""
    Orders.metadata.create_all(postgres_engine)
    return postgres_engine


def test_an_action_is_taken_from_a_form_of_ours_alone(orders: Engine, with_action: list[dict[str, str]]) -> None:
    app = browser_of(Orders, orders, actions=True, authorize=allowed)
    cookie = visit(app, "/form").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    token = re.findall(r"sa_eventsource_token=([^;]+)", cookie)[0]
    own: dict[str, Any] = {"headers": {"Cookie": f"sa_eventsource_token={token}"}}
    assert visit(app, "/act", method="POST", data={"token": token, "name": "a"}, **own).status_code == 303
    assert with_action == [{"name": "a"}]
    assert visit(app, "/act", method="POST", data={"token": "other"}, **own).status_code == 403
    assert visit(app, "/act", method="POST", data={"name": "a"}, **own).status_code == 403
    assert visit(app, "/act", method="POST", data={"token": ""}).status_code == 403
    crossing: dict[str, Any] = {"headers": {"Sec-Fetch-Site": "cross-site", **own["headers"]}}
    assert visit(app, "/act", method="POST", data={"token": token}, **crossing).status_code == 403
    assert visit(app, "/act", method="POST", json={"token": token}, **own).status_code == 415
    assert visit(app, "/act").status_code == 405
    assert len(with_action) == 1


def test_actions_are_there_only_where_both_allow_them(orders: Engine, with_action: list[dict[str, str]]) -> None:
    off = browser_of(Orders, orders, authorize=allowed)
    assert visit(off, "/act", method="POST", data={}).status_code == 404
    looking = browser_of(Orders, orders, actions=True)
    assert visit(looking, "/act", method="POST", data={}).status_code == 403
    assert "set-cookie" not in visit(looking, "/form").headers
    assert with_action == []


class Hidden(DeclarativeBase):
    """A base whose events have personal data."""

    __eventsource__ = EventSourceOptions(master_keys=MASTER_KEYS, commands="commands")


class Patient(AnyPatient, Hidden):
    """A patient."""

    __aggregate_type__ = "browser.Patient"


class PatientNames(ReadModel, Hidden):
    """Rows that have names in clear."""

    __projection_name__ = "browser_patient_names"
    __personal_data__ = "clear"
    __consistency__ = "strong"

    id: Mapped[str] = map_from_event(Admitted, key=True, source="aggregate_id")
    name: Mapped[str] = map_from_event(Admitted)


class RefusedPatients(ReadModel, Hidden):
    """A model that can take none, and says whom."""

    __tablename__ = "browser_refused_patients"
    __projection_name__ = "browser_refused_patients"
    __personal_data__ = "masked"
    __on_error__ = "park"

    id: Mapped[str] = mapped_column(primary_key=True)

    @classmethod
    @handles(Admitted)
    def refuse(cls, recorded: RecordedEvent[Admitted], session: Session) -> None:
        raise ValueError(recorded.event.name)


class TakesNone:
    """What reads names, can take none, and says whom."""

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    name: Mapped[str | None]

    @evolves(Admitted)
    def _admitted(self, recorded: RecordedEvent[Admitted]) -> None:
        raise ValueError(recorded.event.name)


class PatientNotes(TakesNone, ReadModel, Hidden):
    """A model that reads names in clear, and parks."""

    __projection_name__ = "browser_patient_notes"
    __personal_data__ = "clear"
    __on_error__ = "park"


class PatientCards(TakesNone, ReadModel, Hidden):
    """As the notes, and it stops."""

    __projection_name__ = "browser_patient_cards"
    __personal_data__ = "clear"


class PatientWelcome(ProcessManager[str], Hidden):
    """A process that can take none, and says whom."""

    __aggregate_type__ = "browser.PatientWelcome"

    @reacts(Admitted)
    def on_admission(self, event: Admitted) -> list[object]:
        raise ValueError(event.name)


def test_errors_of_what_reads_in_clear_are_shown_as_personal_data_is(engine: Engine) -> None:
    Hidden.metadata.create_all(engine)
    commit_events(engine, Patient, "p-1", Admitted(person_id="p-1", name="Wilhelmina"))
    Worker(engine, Hidden, retries=RetryPolicy(attempts=1)).run_once()
    masked, clear = browser_of(Hidden, engine), browser_of(Hidden, engine, authorize=lambda _request: Access(personal_data=True))
    ones = [f"/models/one?name={each}" for each in ("browser_patient_notes", "browser_patient_cards")]
    parked = re.findall(r'href="(/followers/parked/[^"]+)"', visit(masked, ones[0]).text)
    lag = "/followers/lag?name=browser_patient_cards"
    for path in ("/models", *ones, *parked, lag, "/processes", "/processes/one?name=browser.PatientWelcome"):
        pages = visit(masked, path).text, visit(clear, path).text
        assert ["ValueError: Wilhelmina" in each for each in pages] == [False, True], path
        assert ["which you may not see" in each for each in pages] == [True, False], path
    assert [("Wilhelmina" in visit(each, parked[0]).text) for each in (masked, clear)] == [False, True]
    retry = {"name": "browser_patient_notes", "type": "browser.Patient", "id": "p-1"}
    for access in (Access(actions=True), Access(actions=True, personal_data=True)):
        acting = browser_of(Hidden, engine, actions=True, authorize=lambda _request, access=access: access)
        failed = send(acting, "/followers/parked/retry", page=parked[0], **retry)
        assert (failed.status_code, "Wilhelmina" in failed.text) == (409, access.personal_data)


def test_what_skipping_fails_at_is_shown_as_personal_data_is(engine: Engine) -> None:
    Hidden.metadata.create_all(engine)
    for number in (1, 2):
        commit_events(engine, Patient, f"p-{number}", Admitted(person_id=f"p-{number}", name="Wilhelmina"))
    Worker(engine, Hidden, only=["browser_patient_cards"], retries=RetryPolicy(attempts=1)).run_once()
    with engine.begin() as connection:  # as if it had stopped at the second one, and the first is to be taken again
        of_cards = "projection_name = 'browser_patient_cards'"
        last = "(SELECT max(position) FROM events)"
        connection.execute(text(f"UPDATE projection_positions SET failed_position = {last} WHERE {of_cards}"))
    for access in (Access(actions=True), Access(actions=True, personal_data=True)):
        acting = browser_of(Hidden, engine, actions=True, authorize=lambda _request, access=access: access)
        failed = send(acting, "/followers/skip", page="/models", name="browser_patient_cards")
        assert failed.status_code == 409
        assert ("Wilhelmina" in failed.text, "which you may not see" in failed.text) == (
            access.personal_data,
            not access.personal_data,
        )


@pytest.mark.parametrize("path", [each.path for each in follower_actions.PAGE.addresses])
@pytest.mark.parametrize(
    "error",
    [
        ReadModelError("browser_patient_notes", events=[], event_ids=[], rows=[], reason="Wilhelmina"),
        IntegrityError("COMMIT", {}, Exception("Key (name)=(Wilhelmina) already exists.")),
    ],
    ids=["event", "database"],
)
def test_whatever_an_action_fails_at_is_shown_as_personal_data_is(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch, path: str, error: Exception
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    for action in ("retry_stream", "drop_stream", "resume"):
        monkeypatch.setattr(follower_actions, action, fail)
    Hidden.metadata.create_all(sqlite_engine)
    commit_events(sqlite_engine, Patient, "p-1", Admitted(person_id="p-1", name="Wilhelmina"))
    Worker(sqlite_engine, Hidden, only=["browser_patient_notes"], retries=RetryPolicy(attempts=1)).run_once()
    fields = {"name": "browser_patient_notes", "type": "browser.Patient", "id": "p-1"}
    for access in (Access(actions=True), Access(actions=True, personal_data=True)):
        acting = browser_of(Hidden, sqlite_engine, actions=True, authorize=lambda _request, access=access: access)
        failed = send(acting, path, page="/models", **fields)
        assert ("Wilhelmina" in failed.text, "which you may not see" in failed.text) == (
            access.personal_data,
            not access.personal_data,
        )


def test_personal_data_is_shown_to_those_alone_who_may_see_it(engine: Engine) -> None:
    Hidden.metadata.create_all(engine)
    commit_events(engine, Patient, "p-1", Admitted(person_id="p-1", name="Wilhelmina"))
    Worker(engine, Hidden, retries=RetryPolicy(attempts=1)).run_once()
    assert "ValueError: (forgotten)" in visit(browser_of(Hidden, engine), "/models/one?name=browser_refused_patients").text
    masked, clear = browser_of(Hidden, engine), browser_of(Hidden, engine, authorize=lambda _request: Access(personal_data=True))
    event = re.findall(r'href="(/events/[^"]+)"', visit(masked, "/log").text)[0]
    models = [f"/models/one?name={each}" for each in ("browser_patient_names", "browser_refused_patients")]
    row = "/models/row?name=browser_patient_names&key=p-1"
    models += [row, f"{row}&position=1"]
    for path in ("/log", "/stream?type=browser.Patient&id=p-1", event, f"{event}/payload", *models):
        assert ("Wilhelmina" in visit(masked, path).text, "Wilhelmina" in visit(clear, path).text) == (False, True), path
    assert "Wilhelmina" not in visit(masked, "/models").text


@pytest.mark.parametrize("is_clear", [False, True])
def test_why_a_rebuild_failed_is_shown_as_personal_data_is(engine: Engine, is_clear: bool) -> None:
    Hidden.metadata.create_all(engine)
    commit_events(engine, Patient, "p-1", Admitted(person_id="p-1", name="Wilhelmina"))
    access = Access(actions=True, personal_data=is_clear)
    app = browser_of(Hidden, engine, actions=True, authorize=lambda _request: access)
    send(app, "/models/rebuild", page="/models", name="browser_patient_notes")
    rebuild = app.rebuilds.of(app.source.tables.read_models["browser_patient_notes"], None)
    assert rebuild is not None
    assert rebuild.wait(60)
    page = visit(app, "/models/rebuild?name=browser_patient_notes").text
    assert ("Wilhelmina" in page, "which you may not see" in page) == (is_clear, not is_clear)


@pytest.mark.parametrize("is_clear", [False, True])
def test_other_code_is_given_personal_data_as_its_reader_may_see_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, is_clear: bool
) -> None:
    given: list[str] = []

    def compare(_code: OtherCode, _name: str, history: Any, shown: range) -> Any:
        given.extend(history.payloads)
        return (replay_here(history, shown, seconds=60),) * 2

    monkeypatch.setattr(OtherCode, "compare", compare)
    Hidden.metadata.create_all(engine)
    commit_events(engine, Patient, "p-1", Admitted(person_id="p-1", name="Wilhelmina"))
    app = browser_of(
        Hidden,
        engine,
        other_code=OtherCode("patients:Base", ["main"]),
        authorize=lambda _request: Access(other_code=True, personal_data=is_clear),
    )
    page = visit(app, "/stream/code?type=browser.Patient&id=p-1&code=main").text
    assert "The states are the same" in page
    assert ("Wilhelmina" in given[0], "(forgotten)" in given[0]) == (is_clear, not is_clear)
    assert ("Wilhelmina" in page) == is_clear
