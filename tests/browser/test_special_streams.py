"""Streams that are closed, archived, read as other events, forgotten, or broken by their own methods, on the pages of a stream."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Annotated, Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    Personal,
    applies,
    archive,
    event_context,
    forget,
    upcast,
)
from sa_eventsource.browser import Access, OtherCode
from sa_eventsource.mapping import tables_of_base
from tests.browser.shop import START
from tests.browser.visiting import browser_of, visit
from tests.privacy.keys import MASTER_KEYS


class Base(DeclarativeBase):
    """A base with archives and personal data."""

    __eventsource__ = EventSourceOptions(archives="archives", master_keys=MASTER_KEYS)


class BoatNamed(DomainEvent):
    """A boat got a name."""

    __event_type__ = "browser.BoatNamed"
    name: str


class BoatSailed(DomainEvent):
    """A boat went somewhere."""

    __event_type__ = "browser.BoatSailed"
    to: str
    miles: int = 1


class BoatSold(DomainEvent):
    """A boat was sold."""

    __event_type__ = "browser.BoatSold"
    owner_id: str
    owner: Annotated[str, Personal(subject="owner_id", placeholder="(forgotten)")]


@upcast("browser.BoatNamedAndSailed", from_version=1, into=(BoatNamed, BoatSailed))
def split(payload: dict[str, Any]) -> list[DomainEvent]:
    """Make two events of one."""
    return [BoatNamed(name=payload["name"]), BoatSailed(to=payload["to"])]


@upcast("browser.BoatPainted", from_version=1, into=())
def drop(payload: dict[str, Any]) -> list[DomainEvent]:
    """Forget that there were colours."""
    return []


class Boat(AggregateRoot, Base):
    """A boat."""

    __aggregate_type__ = "browser.Boat"
    name: str = ""
    at: str = "home"
    share: int = 0
    owner: str = ""

    @applies(BoatNamed)
    def _named(self, event: BoatNamed) -> None:
        self.name = event.name

    @applies(BoatSailed)
    def _sailed(self, event: BoatSailed) -> None:
        self.at = event.to
        self.share = 100 // event.miles

    @applies(BoatSold)
    def _sold(self, event: BoatSold) -> None:
        self.owner = event.owner


STREAM = "/stream?type=browser.Boat&id=b-1"


@pytest.fixture
def boats(engine: Engine) -> Engine:
    """An engine on an empty log."""
    Base.metadata.create_all(engine)
    return engine


def sail(engine: Engine, *events: DomainEvent, close: bool = False) -> None:
    """Store a boat's events, each a day after the other."""
    with Session(engine) as session:
        boat = Boat(id="b-1")
        for day, event in enumerate(events):
            boat.apply_event(event, occurred_at=START + timedelta(days=day))
        if close:
            boat.close_stream("sunk")
        session.add(boat)
        session.commit()


def store_as(engine: Engine, version: int, **values: Any) -> None:
    """Have a stored event be another one, as older code would have stored it."""
    events = tables_of_base("test", Base).events
    with engine.connect() as connection:
        row = connection.execute(events.select().where(events.c.version == version)).one()
        last = connection.execute(events.select().order_by(events.c.version.desc()).limit(1)).one()
        new = {"version": last.version + 1, "position": last.position + 1, "event_id": type(last.event_id)(int=last.version + 1)}
        connection.execute(events.insert().values({**row._mapping, **new, **values}))
        connection.commit()


def page_of(engine: Engine, path: str = STREAM, **options: Any) -> tuple[int, str]:
    """Ask for a page: its status, and its text with white space folded."""
    answer = visit(browser_of(Base, engine, **options), path)
    return answer.status_code, " ".join(html.unescape(re.sub("<[^>]+>", " ", answer.text)).split())


def test_a_closed_stream_says_so_and_ends_with_its_end(boats: Engine) -> None:
    sail(boats, BoatNamed(name="Ann"), close=True)
    status, page = page_of(boats)
    assert status == 200
    assert "b-1 closed" in page
    assert '"reason" : "sunk"' in page.replace('"reason":', '"reason" :')
    assert "b-1 closed" not in page_of(boats, "/log")[1]


def test_an_archived_stream_says_where_it_is_since_when_and_why(boats: Engine) -> None:
    sail(boats, BoatNamed(name="Ann"), close=True)
    with Session(boats) as session, event_context(user="bob"):
        archive(session, Boat, "b-1", reason="season <b>2026</b>")
        session.commit()
    status, page = page_of(boats)
    assert status == 410
    assert "its 2 events were taken out of the log" in page
    assert "Why season <b>2026</b>" in page
    assert "user bob" in page
    code = OtherCode("boats:Base", ["main"])
    assert page_of(boats, STREAM.replace("/stream", "/stream/code"), other_code=code, authorize=runs)[0] == 410


def runs(request: Any) -> Access:
    """Let all replay streams by other code."""
    return Access(other_code=True)


def test_an_event_that_is_read_as_several_or_none_says_as_which(boats: Engine) -> None:
    sail(boats, BoatNamed(name="Ann"))
    store_as(boats, 1, event_type="browser.BoatNamedAndSailed", event_data={"name": "Bob", "to": "Crete"})
    store_as(boats, 1, event_type="browser.BoatPainted", event_data={"colour": "red"})
    page = page_of(boats, f"{STREAM}&version=2")[1]
    assert "An upcaster reads it as 2 events: browser.BoatNamed browser.BoatSailed Applied by Boat._named" in page
    assert 'name changed was "Ann" "Bob"' in page
    page = page_of(boats, f"{STREAM}&version=3")[1]
    assert "An upcaster drops it: it is read as no event." in page
    assert 'BoatNamed(name="Bob"), BoatSailed(to="Crete", miles=1), )' in page


def test_who_is_forgotten_is_a_placeholder(boats: Engine) -> None:
    sail(boats, BoatNamed(name="Ann"), BoatSold(owner_id="o-1", owner="Wilhelmina"))
    allowed: dict[str, Any] = {"authorize": lambda _request: Access(personal_data=True)}
    assert 'owner changed was "" "Wilhelmina"' in page_of(boats, **allowed)[1]
    with Session(boats) as session:
        forget(session, "o-1", reason="asked", base=Base)
        session.commit()
    page = page_of(boats, **allowed)[1]
    assert 'owner changed was "" "(forgotten)"' in page
    assert "Wilhelmina" not in page


def test_what_a_method_raises_is_said_where_it_does(boats: Engine) -> None:
    sail(boats, BoatNamed(name="Ann"), BoatSailed(to="Crete"))
    store_as(boats, 2, event_data={"to": "Malta", "miles": 0})
    for _ in range(30):
        store_as(boats, 1)
    status, page = page_of(boats, f"{STREAM}&version=2")
    assert status == 200
    assert "The next event cannot be replayed. ZeroDivisionError" in page
    assert 'at changed was "home" "Crete"' in page
    for query in ("", "&version=33", "&version=2&with=33"):
        answer = visit(browser_of(Base, boats), STREAM + query)
        assert answer.headers["location"] == "/stream?version=3&type=browser.Boat&id=b-1"
    status, page = page_of(boats, answer.headers["location"])
    assert "There is no state at version 3" in page
    assert "The next event cannot be replayed. ZeroDivisionError" in page


def test_what_a_method_raises_is_said_by_time_too(boats: Engine) -> None:
    sail(boats, BoatNamed(name="Ann"), BoatSailed(to="Crete"))
    store_as(boats, 2, event_data={"to": "Malta", "miles": 0}, occurred_at=START)
    status, page = page_of(boats, f"{STREAM}&axis=occurred")
    assert (status, "It cannot be replayed: ZeroDivisionError" in page) == (409, True)


def test_what_occurred_is_shown_by_time_too(boats: Engine) -> None:
    with Session(boats) as session:
        boat = Boat(id="b-1")
        boat.apply_event(BoatNamed(name="Ann"), occurred_at=START + timedelta(days=2))
        boat.apply_event(BoatSailed(to="Crete"), occurred_at=START)
        session.add(boat)
        session.commit()
    page = page_of(boats, f"{STREAM}&axis=occurred&step=1")[1]
    assert "What occurred browser.BoatSailed version 2 recorded" in page
    assert 'name "" at changed was "home" "Crete" share changed was 0 100 owner ""' in page
