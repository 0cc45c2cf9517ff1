"""The pages of publishers and subscriptions: how far each lane has come, what it cannot take, and what inboxes remember."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from starlette.requests import Request

from sa_eventsource.browser import Access
from tests.browser import garage as garage_module
from tests.browser.garage import Base, open_for_a_day, publisher, work
from tests.browser.visiting import browser_of, send, visit, words_of
from tests.publishing.scripted_sender import ScriptedSender

MAILER = "/subscriptions/one?name=garage.mailer"
PUBLISHER = "/subscriptions/one?name=garage.publisher"


@pytest.fixture
def garage(engine: Engine) -> Engine:
    """A garage at the end of a day."""
    open_for_a_day(engine)
    return engine


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedSender]:
    """A broker that does as it is told, in the place of the publisher's."""
    sender = ScriptedSender()
    monkeypatch.setattr(publisher, "sender", sender)
    yield sender
    publisher.close()


def allowed(request: Request) -> Access:
    """Let all act."""
    return Access(actions=True)


def test_all_are_listed_with_their_state_and_the_inboxes(garage: Engine) -> None:
    words = words_of(visit(browser_of(Base, garage), "/subscriptions"))
    assert "garage.mailer SubscriptionError: subscription 'garage.mailer' cannot take garage.CarBrought" in words
    assert "subscription stopped" in words
    assert "garage.publisher publisher new" in words
    assert "garage.Repair" not in words
    assert "inbox the only one 1 2" in words


def test_one_that_has_stopped_says_at_which_event_and_goes_on(garage: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    app = browser_of(Base, garage, actions=True, authorize=allowed)
    words = words_of(visit(app, MAILER))
    assert "garage.mailer stopped" in words
    assert "ValueError: no address" in words
    assert "the event at " in words
    assert "1 time" in words
    monkeypatch.setattr(garage_module, "has_address", True)
    done = send(app, "/followers/resume", page=MAILER, name="garage.mailer")
    assert (done.status_code, done.headers["location"]) == (303, MAILER)
    work(garage, "garage.mailer")
    assert "garage.mailer running" in words_of(visit(app, MAILER))


def test_one_that_has_stopped_goes_on_behind_its_event(garage: Engine) -> None:
    app = browser_of(Base, garage, actions=True, authorize=allowed)
    assert "Skip its event for ever" in words_of(visit(app, MAILER))
    assert send(app, "/followers/skip", page=MAILER, name="garage.mailer").status_code == 303
    work(garage, "garage.mailer")
    words = words_of(visit(app, MAILER))
    assert "garage.mailer running" in words
    assert "Behind 0 events" in words
    assert "Skip its event" not in words


def test_messages_that_the_broker_refuses_are_shown_and_sent_again(garage: Engine, broker: ScriptedSender) -> None:
    broker.refuses = lambda message: message.stream[1] == "bill of car-1"
    work(garage, "garage.publisher")
    app = browser_of(Base, garage, actions=True, authorize=allowed)
    words = words_of(visit(app, PUBLISHER))
    assert "Publishes to object, channel garage" in words
    assert "Parked messages garage.BillSent" in words
    assert "no queue is bound for it" in words
    broker.refuses = lambda _: False
    parked = {"name": "garage.publisher", "type": "garage.Bill", "id": "bill of car-1"}
    assert send(app, "/followers/parked/retry", page=PUBLISHER, **parked).status_code == 303
    assert ("bill of car-1", 1) in broker.sent
    assert "Parked" not in words_of(visit(app, PUBLISHER))


def test_each_lane_of_a_publisher_has_a_line(postgres_engine: Engine, broker: ScriptedSender) -> None:
    open_for_a_day(postgres_engine)
    broker.delays = lambda _: True
    work(postgres_engine, "garage.publisher")
    words = words_of(visit(browser_of(Base, postgres_engine), PUBLISHER))
    assert "garage.publisher#1/2" in words
    assert "garage.publisher#2/2" in words
    assert "the broker is away" in words


def test_what_is_not_there_is_named(garage: Engine) -> None:
    app = browser_of(Base, garage)
    assert "no publisher and no subscription nobody" in visit(app, "/subscriptions/one?name=nobody").text
