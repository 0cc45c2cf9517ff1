"""The pages of lag over time and of a parked event in a real web browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, create_engine

from sa_eventsource.browser import Access
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.workers import Worker
from tests.browser.chromium.conftest import served
from tests.browser.visiting import browser_of
from tests.databases import DatabasePool
from tests.projections.bank import Base, deposit

pytestmark = pytest.mark.slow

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LAG = "/followers/lag?name=declared_parking"


@pytest.fixture(scope="module")
def engine_of_bank(postgres_url: str) -> Iterator[Engine]:
    """A bank of which a model has parked three events."""
    with closing(DatabasePool(postgres_url)) as databases, databases.database() as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        deposit(engine, "ann", 10, 20)
        deposit(engine, "<script>alert(1)</script>", -5, 7, 8)
        Worker(engine, Base, only=["parking", "declared_parking"], retries=RetryPolicy(attempts=1)).run_once()
        yield engine
        engine.dispose()


@pytest.fixture(scope="module")
def bank(engine_of_bank: Engine) -> Iterator[str]:
    """The address of a browser over it."""
    with served(browser_of(Base, engine_of_bank, title="Bank", actions=True, authorize=lambda _: Access(actions=True))) as address:
        yield address


def has_no_fault_and_fits_a_phone(page: Page) -> None:
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in found] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_page_that_is_left_open_draws_lag_and_its_address_shows_the_same(page: Page, bank: str, engine_of_bank: Engine) -> None:
    page.goto(bank + LAG)
    deposit(engine_of_bank, "ann", *range(30))
    expect(page.locator(".samples tbody tr").nth(2)).to_be_visible()
    Worker(engine_of_bank, Base, only=["declared_parking"]).run_once()
    expect(page.locator(".samples tbody tr").nth(4)).to_be_visible()
    page.locator("#watch").focus()
    expect(page.locator(".samples tbody tr").nth(5)).to_be_visible()
    expect(page.locator("#watch")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#watch")).to_have_text("Live")
    assert re.search(r"[?&]samples=", page.url)
    rows = page.locator(".samples tbody tr").all_inner_texts()
    page.goto(page.url)
    assert page.locator(".samples tbody tr").all_inner_texts() == rows
    expect(page.get_by_role("img", name=re.compile("^Events behind: from 0 to 0, at most 30"))).to_be_visible()
    has_no_fault_and_fits_a_phone(page)


def test_without_scripts_a_link_adds_a_sample(without_scripts: Page, bank: str) -> None:
    page = without_scripts
    page.goto(bank + LAG)
    for number in (2, 3):
        page.get_by_role("link", name="Take a sample now").click()
        expect(page.locator(".samples tbody tr")).to_have_count(number)


def test_the_page_of_a_parked_event_is_reached_and_what_is_parked_is_skipped_there(page: Page, bank: str) -> None:
    page.goto(f"{bank}/models/one?name=parking")
    page.get_by_role("link", name="Traceback and payload of 3").click()
    expect(page.locator(".problem")).to_contain_text("negative: -5")
    expect(page.get_by_role("region", name="Traceback")).to_contain_text("Traceback (most recent call last)")
    has_no_fault_and_fits_a_phone(page)
    page.get_by_role("link", name="bank.Deposited 4").click()
    expect(page.locator(".left-out-note")).to_contain_text("waits until the event at 3")
    has_no_fault_and_fits_a_phone(page)
    page.get_by_role("link", name="the event at 3").click()
    page.get_by_role("button", name="Skip for ever").click()
    expect(page.locator("h1")).to_have_text("parking running")
    expect(page.locator(".parked")).to_have_count(0)
