"""The pages of processes, commands, publishers and the schema in a real web browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Literal
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import create_engine
from starlette.requests import Request

from sa_eventsource.browser import Access
from tests.browser.chromium.conftest import served
from tests.browser.garage import HOSTILE, Base, open_for_a_day, publisher, work
from tests.browser.visiting import browser_of
from tests.databases import DatabasePool
from tests.publishing.scripted_sender import ScriptedSender

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PATHS = (
    "/processes",
    "/processes/one?name=garage.Repair",
    f"/processes/instance?name=garage.Repair&id={quote(HOSTILE)}",
    "/commands",
    "/commands?status=parked",
    "/subscriptions",
    "/subscriptions/one?name=garage.publisher",
    "/subscriptions/one?name=garage.mailer",
    "/schema",
    "/schema/event?type=garage.CarBrought",
)


def allowed(request: Request) -> Access:
    """Let all act."""
    return Access(actions=True)


@pytest.fixture(scope="module")
def garage(postgres_url: str) -> Iterator[str]:
    """The address of a browser over a garage at the end of a day, where the broker has refused a message."""
    with pytest.MonkeyPatch.context() as patch, closing(DatabasePool(postgres_url)) as databases, databases.database() as url:
        engine = create_engine(url)
        open_for_a_day(engine)
        sender = ScriptedSender()
        sender.refuses = lambda message: message.stream[1] == "bill of car-1"
        patch.setattr(publisher, "sender", sender)
        work(engine, "garage.publisher")
        with served(browser_of(Base, engine, title="Garage", actions=True, authorize=allowed)) as address:
            yield address
        engine.dispose()
        publisher.close()


@pytest.mark.parametrize("path", PATHS)
def test_pages_have_no_fault_of_accessibility_and_fit_a_phone(page: Page, garage: str, path: str) -> None:
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.goto(garage + path)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in found] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_command_that_failed_is_found_and_discarded(page: Page, garage: str) -> None:
    page.goto(f"{garage}/log")
    page.get_by_role("link", name="Commands", exact=True).click()
    page.get_by_role("link", name="Parked", exact=True).click()
    page.locator("a.model-name", has_text="garage.CallOwner").click()
    expect(page.locator("h1")).to_have_text("garage.CallOwner parked")
    expect(page.locator(".problem")).to_contain_text("nobody answers <script>alert(1)</script>\\u202egpj")
    assert [each["id"] for each in Axe().run(page).response["violations"]] == []
    page.get_by_role("button", name="Discard for ever").click()
    expect(page.locator("h1")).to_have_text("garage.CallOwner discarded")


def test_the_picture_leads_to_an_event_by_keyboard_and_from_there_to_its_code(page: Page, garage: str) -> None:
    page.goto(f"{garage}/schema")
    page.get_by_role("region", name="Picture of the system").focus()
    for _ in range(3):  # two aggregates stand before the events
        page.keyboard.press("Tab")
    expect(page.locator("svg a:focus")).to_have_attribute(
        "aria-label", re.compile("^event garage.BillSent, with lines to garage.Bill")
    )
    page.get_by_role("link", name=re.compile("^event garage.CarBrought")).focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("garage.CarBrought v2")
    page.get_by_text("with_plate", exact=True).click()
    expect(page.locator("pre", has_text='return {"plate": payload["number"]}')).to_be_visible()


def test_without_scripts_commands_are_filtered(without_scripts: Page, garage: str) -> None:
    page = without_scripts
    page.goto(f"{garage}/commands")
    page.get_by_label("Status", exact=True).select_option("done")
    page.get_by_label("Type").fill("garage.SendBill")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(2)
