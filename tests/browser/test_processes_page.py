"""The pages of process managers: what each waits for, its processes, what led to each of their events and what followed."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from sqlalchemy import Engine
from starlette.requests import Request

from sa_eventsource.browser import Access, process_instances
from tests.browser.garage import HOSTILE, Base, bring, open_for_a_day, work
from tests.browser.visiting import browser_of, send, visit, words_of
from tests.orders import Base as Orders

MANAGER = "/processes/one?name=garage.Repair"


@pytest.fixture
def garage(engine: Engine) -> Engine:
    """A garage at the end of a day."""
    open_for_a_day(engine)
    return engine


def instances_on(page: str) -> list[str]:
    """List the processes that a page's table has."""
    return re.findall(r'class="stream-id" href="/processes/instance\?name=garage.Repair&amp;id=([^"]+)"', page)


def test_process_managers_are_listed_with_what_they_wait_for(garage: Engine) -> None:
    page = visit(browser_of(Base, garage), "/processes")
    assert re.search(r"garage.Repair running 0 none 1 \d", words_of(page))
    assert 'aria-current="page">Processes' in page.text


def test_a_log_without_processes_has_no_page_of_them(engine: Engine) -> None:
    Orders.metadata.create_all(engine)
    app = browser_of(Orders, engine)
    assert visit(app, "/processes").status_code == 404
    assert "Processes" not in visit(app, "/log").text


def test_a_process_manager_shows_its_reactions_time_outs_and_processes(garage: Engine) -> None:
    app = browser_of(Base, garage, source_link="https://git.example/{path}#L{line}")
    page = visit(app, MANAGER)
    words = words_of(page)
    assert "ValueError: a car without a plate" in words
    assert "Repair.on_brought tests/browser/garage.py:" in words
    assert "https://git.example/tests/browser/garage.py#L" in page.text
    assert words.count("due in 2 d") == 5
    assert instances_on(page.text) == sorted([quote(HOSTILE, safe=""), "car-1", "car-2", "yard-0", "yard-1"])
    assert "garage.RepairBegun" in words
    assert page.text.count('">ended</span>') == 2
    assert visit(app, "/processes/one?name=nobody").status_code == 404


def test_processes_are_paged_by_id(garage: Engine) -> None:
    app = browser_of(Base, garage)
    for number in range(60):
        bring(garage, f"many-{number:02}", "AB", repaired=True)
    work(garage, "garage.Repair")
    first = visit(app, MANAGER).text
    following = re.findall(r'rel="next" href="([^"#]+)', first)[0].replace("&amp;", "&")
    second = visit(app, following).text
    found = instances_on(first) + instances_on(second)
    assert (len(instances_on(first)), len(found), len(set(found))) == (50, 65, 65)
    assert 'rel="next"' not in second.partition('id="instances"')[2]


def test_processes_are_filtered_by_id_and_state(garage: Engine) -> None:
    app = browser_of(Base, garage)
    found = {each: instances_on(visit(app, f"{MANAGER}&state={each}").text) for each in process_instances.STATES}
    assert {each: len(some) for each, some in found.items()} == {"running": 3, "ended": 2, "archived": 0}
    assert sorted(found["running"] + found["ended"]) == sorted(instances_on(visit(app, MANAGER).text))
    ended = found["ended"][0]
    for asked, expected in ((f"id={ended}", [ended]), (f"id={ended}&state=ended", [ended]), (f"id={ended}&state=running", [])):
        assert instances_on(visit(app, f"{MANAGER}&{asked}").text) == expected
    nothing = visit(app, f"{MANAGER}&id=nobody")
    assert "No process is like that" in words_of(nothing)
    assert "/commands?process=garage.Repair&amp;id=nobody" in nothing.text
    assert "none of running, ended, archived" in visit(app, f"{MANAGER}&state=lost").text


def test_a_search_for_a_state_says_how_far_it_came_and_goes_on(garage: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_instances, "_SECONDS", -1)
    monkeypatch.setattr(process_instances, "_AT_A_TIME", 2)
    app = browser_of(Base, garage)
    page = visit(app, f"{MANAGER}&state=ended").text
    found = instances_on(page)
    assert "Searched as far as process" in page
    while links := re.findall(r'rel="next" href="([^"#]+)[^"]*">Search on', page):
        page = visit(app, links[0].replace("&amp;", "&")).text
        found += instances_on(page)
    monkeypatch.undo()
    assert found == instances_on(visit(app, f"{MANAGER}&state=ended").text)


def test_a_process_shows_what_led_to_each_event_and_what_followed(garage: Engine) -> None:
    app = browser_of(Base, garage)
    page = visit(app, "/processes/instance?name=garage.Repair&id=car-1")
    words = words_of(page)
    assert "garage.Repair car-1 ended" in words
    words = re.sub(r"\d{4}-\S+ \S+ ", "", words)  # without times
    assert "2 garage.RepairEnded garage.CarRepaired garage.Car car-1 garage.SendBill done" in words
    assert "1 garage.RepairBegun garage.CarBrought v2 garage.Car car-1 garage.CallOwner due in 2 d" in words
    assert visit(app, "/processes/instance?name=garage.Repair&id=nobody").status_code == 404
    assert visit(app, "/processes/instance?name=garage.Repair&id=car-1&before=x").status_code == 400


def test_a_hostile_id_is_shown_as_text(garage: Engine) -> None:
    page = visit(browser_of(Base, garage), f"/processes/instance?name=garage.Repair&id={quote(HOSTILE)}").text
    assert "<script>alert" not in page
    assert "\u202e" not in page


def test_what_is_parked_for_a_process_is_taken_or_skipped_by_whom_may_act(garage: Engine) -> None:
    def allowed(request: Request) -> Access:
        return Access(actions=True)

    app = browser_of(Base, garage, actions=True, authorize=allowed)
    parked = {"name": "garage.Repair", "type": "garage.Repair", "id": "car-none"}
    assert "a car without a plate" in send(app, "/followers/parked/retry", page=MANAGER, **parked).text
    done = send(app, "/followers/parked/skip", page=MANAGER, **parked)
    assert (done.status_code, done.headers["location"]) == (303, MANAGER)
    assert 'id="parked"' not in visit(app, MANAGER).text
