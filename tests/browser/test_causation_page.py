"""The pages of causation: what led to an event, what followed, and the events of a correlation by aggregate over time."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree as ET

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sa_eventsource import event_context
from sa_eventsource.browser.event_family import MOST_SHOWN, branches_of
from tests.browser.shop import CORRELATION, sell
from tests.browser.story import event_id, tell
from tests.browser.visiting import browser_of, visit
from tests.orders import Base, Order


@pytest.fixture
def story(engine: Engine) -> Any:
    """A browser over a story."""
    Base.metadata.create_all(engine)
    tell(engine)
    return browser_of(Base, engine)


def pictures(page: str) -> list[ET.Element]:
    """Read the pictures of a page as the XML that they are: the tree, and the lanes."""
    return [ET.fromstring(each) for each in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def numbers(picture: ET.Element) -> list[int]:
    """List the events that a picture links to, in its order."""
    links = [each.get("href", "") for each in picture.iter("a")]
    return [int(each.rsplit("-", 1)[1]) for each in links if "/events/" in each]


def test_the_first_event_leads_to_all(story: Any) -> None:
    tree, lanes = pictures(visit(story, f"/events/{event_id(1)}/causation").text)
    assert numbers(tree) == [1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]
    assert numbers(lanes) == list(range(1, 12))
    assert len([each for each in tree.iter("path") if each.get("class") == "from-cause"]) == 10


def test_an_event_is_shown_with_its_causes_and_effects_and_the_others_paler(story: Any) -> None:
    tree, lanes = pictures(visit(story, f"/events/{event_id(6)}/causation").text)
    assert numbers(tree) == [1, 2, 4, 6, 7, 8, 9]
    here = [each for each in tree.iter("a") if each.get("aria-current") == "true"]
    assert [each.get("href") for each in here] == [f"/events/{event_id(6)}"]
    assert "shop.OrderPaid, Order story-wrapping, version 2, +9 min (this event)" in str(here[0].get("aria-label"))
    paler = [each.get("href", "")[-2:] for each in lanes.iter("a") if each.get("class") == "aside"]
    assert paler == ["03", "05", "10", "11"]


def test_a_correlation_has_a_lane_for_each_aggregate(story: Any) -> None:
    page = visit(story, f"/correlation?correlation={event_id(1)}").text
    _, lanes = pictures(page)
    assert [each.get("class") for each in lanes.iter("line")].count("lane") == 5
    assert "11 events of 5 aggregates over time" in page
    places = [int(each.get("cx", "")) for each in lanes.iter("circle") if str(each.get("class")).startswith("point")]
    assert places == sorted(set(places))
    assert "left-out-note" not in page


def test_event_and_stream_lead_there_and_a_first_event_has_its_effects(story: Any) -> None:
    event = visit(story, f"/events/{event_id(1)}").text
    assert f'href="/events/{event_id(1)}/causation"' in event
    assert f'href="/events/{event_id(2)}"' in event  # whose correlation id is the id of the first, which has none
    assert f'href="/events/{event_id(1)}/causation"' in visit(story, "/stream?type=Order&id=story-1&version=1").text
    assert f'href="/correlation?correlation={event_id(1)}"' in visit(story, f"/events/{event_id(2)}").text


def test_texts_of_others_stay_texts_in_pictures(story: Any) -> None:
    page = visit(story, f"/events/{event_id(10)}/causation").text
    assert "<script>alert" not in page
    assert "\u202e" not in page
    tree, _ = pictures(page)
    assert "</text></svg><script>alert(1)</script>" in "".join(tree.itertext())


def test_events_without_causes_stand_side_by_side(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    sell(engine)
    page = visit(browser_of(Base, engine), f"/correlation?correlation={CORRELATION}").text
    assert "from-cause" not in page
    assert "Tree of 7 events" in page


def test_what_is_not_there_is_said(story: Any) -> None:
    assert visit(story, "/correlation").status_code == 400
    assert visit(story, "/correlation?correlation=x").status_code == 400
    assert visit(story, f"/correlation?correlation={uuid4()}").status_code == 404
    assert visit(story, f"/events/{uuid4()}/causation").status_code == 404


def test_of_many_events_the_first_are_shown(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    correlation = uuid4()
    with Session(engine) as session, event_context(correlation_id=correlation):
        order = Order.place(order_id="busy")
        session.add(order)
        for number in range(MOST_SHOWN + 50):
            order.note(str(number))
        session.commit()
    page = visit(browser_of(Base, engine), f"/correlation?correlation={correlation}").text
    assert "The correlation has 251 events. The first 200 are shown" in page
    assert [len(numbers_of_events(each)) for each in pictures(page)] == [MOST_SHOWN, MOST_SHOWN]


def numbers_of_events(picture: ET.Element) -> list[str]:
    """List the addresses of events that a picture links to."""
    return [each.get("href", "") for each in picture.iter("a") if "/events/" in each.get("href", "")]


def test_what_is_not_looked_at_is_said(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sa_eventsource.browser.event_family.MOST_READ", 5)
    page = visit(story, f"/correlation?correlation={event_id(1)}").text
    assert "The correlation has more than 10\u202f000 events." in page
    assert [len(numbers(each)) for each in pictures(page)] == [
        7,
        7,
    ]  # one more than are read tells that there are more, and the first


def test_a_circle_of_causes_is_cut_open() -> None:
    rows: Any = [
        SimpleNamespace(event_id=each, causation_id=cause, position=each) for each, cause in ((1, 2), (2, 1), (3, 3), (4, None))
    ]
    assert [(each.row.event_id, each.depth) for each in branches_of(rows)] == [(4, 0), (1, 0), (2, 1), (3, 0)]
