"""The page of a parked event, and pages of what a model has parked."""

from __future__ import annotations

import html
import re

import pytest
from sqlalchemy import Engine, select
from starlette.requests import Request

from sa_eventsource.browser import Access
from sa_eventsource.browser.shown_parked_events import SIZE
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.workers import Worker
from tests.browser.visiting import browser_of, send, visit, words_of
from tests.projections import bank as bank_module
from tests.projections.bank import Base, Parking, deposit, totals

HOSTILE = "<script>alert(1)</script>\u202egpj"
TABLES = tables_on(Base.metadata)


def allowed(request: Request) -> Access:
    """Let all act."""
    return Access(actions=True)


@pytest.fixture
def bank(engine: Engine) -> Engine:
    """A bank with an account of which a model has parked three events."""
    Base.metadata.create_all(engine)
    deposit(engine, "ann", 10)
    deposit(engine, HOSTILE, -5, 7, 8)
    take(engine)
    return engine


def take(engine: Engine) -> None:
    """Let the model take what it can, at the first attempt."""
    Worker(engine, Base, only=["parking"], retries=RetryPolicy(attempts=1)).run_once()


def pages_of(engine: Engine) -> list[str]:
    """The addresses of the parked events' pages, by position."""
    ids = select(TABLES.parked_events.c.event_id).order_by(TABLES.parked_events.c.position)
    with engine.connect() as connection:
        return [f"/followers/parked/{each}?name=parking" for each in connection.scalars(ids)]


def links(page: str, text: str) -> list[str]:
    """The addresses that a page's links with a text lead to."""
    return [html.unescape(each) for each in re.findall(rf'<a [^>]*href="([^"#]+)[^>]*>{text}</a>', page)]


def test_it_says_what_went_wrong_with_which_payload_and_how_often_it_was_tried(bank: Engine) -> None:
    first, *_ = pages_of(bank)
    app = browser_of(Base, bank)
    assert html.escape(first) in visit(app, "/models/one?name=parking").text
    page = visit(app, first)
    words = words_of(page)
    assert "ValueError: negative: -5" in words
    assert "Traceback (most recent call last)" in words
    assert '<span class="j-number">-5</span>' in page.text
    assert "Tried 1 time" in words
    assert "2 events of the same stream" in words
    assert "&lt;script&gt;" in page.text
    assert "<script>alert" not in page.text
    assert "\u202e" not in page.text
    assert 'method="post"' not in page.text


def test_one_that_waits_behind_it_leads_to_it(bank: Engine) -> None:
    first, second, third = pages_of(bank)
    app = browser_of(Base, bank)
    assert re.findall(r'href="(/followers/parked/[^"]+)"', visit(app, first).text) == [second, third]
    page = visit(app, second)
    assert re.findall(r'href="(/followers/parked/[^"]+)"', page.text) == [first, third]
    assert "Nothing yet: it waits until the event at 2 of the same stream is taken or skipped" in words_of(page)
    assert "Tried not yet" in words_of(page)


def test_a_retry_in_vain_is_counted_and_one_that_succeeds_leaves_nothing_parked(
    bank: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = pages_of(bank)
    app = browser_of(Base, bank, actions=True, authorize=allowed)
    (account,) = re.findall(r'name="type" value="([^"]+)"', visit(app, first).text)[:1]
    stream = {"name": "parking", "type": account, "id": HOSTILE}
    assert send(app, "/followers/parked/retry", page=first, **stream).status_code == 409
    assert "Tried 2 times" in words_of(visit(app, first))
    monkeypatch.setattr(bank_module._Refusing, "mended", True)
    assert send(app, "/followers/parked/retry", page=first, **stream).status_code == 303
    assert totals(bank, Parking)[HOSTILE] == 10
    page = visit(app, first)
    assert page.status_code == 404
    assert "parking has not parked this event It was taken or skipped, or was never parked" in words_of(page)


def test_what_is_not_there_is_named(bank: Engine) -> None:
    first, *_ = pages_of(bank)
    app = browser_of(Base, bank)
    nobody = first.replace("name=parking", "name=nobody")
    assert "Nothing that follows the log is called nobody" in visit(app, nobody).text
    nothing = "/followers/parked/00000000-0000-0000-0000-000000000001?name=parking"
    assert (visit(app, nothing).status_code, visit(app, f"{first}&parked_after=x").status_code) == (404, 400)


def test_parked_events_are_paged_by_position(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    names = [f"bad-{number:02}" for number in range(SIZE + 3)]
    for name in names:
        deposit(engine, name, -1)
    take(engine)
    app = browser_of(Base, engine)
    first = visit(app, "/models/one?name=parking").text
    (following,) = links(first, "Next")[:1]
    second = visit(app, following).text
    assert [stream_ids(first), stream_ids(second)] == [names[:SIZE], names[SIZE:]]
    assert links(second, "First page") == ["/models/one?name=parking"]
    assert not links(second, "Next")
    beyond = visit(app, "/models/one?name=parking&parked_after=999999")
    assert "No further parked events" in words_of(beyond)


def stream_ids(page: str) -> list[str]:
    """The streams whose events a page shows as parked."""
    return re.findall(r'stream-id">(bad-\d+)<', page)


def test_what_is_parked_behind_an_event_is_paged(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    deposit(engine, "bad", -1, *range(SIZE + 3))
    take(engine)
    first, *others = pages_of(engine)
    app = browser_of(Base, engine)
    page = visit(app, first)
    assert f"{SIZE + 3} events of the same stream" in words_of(page)
    (following,) = links(page.text, "Next")
    shown = re.findall(r'href="(/followers/parked/[^"]+name=parking)"', visit(app, following).text)
    assert [each for each in shown if each != first] == others[SIZE:]
