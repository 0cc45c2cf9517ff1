"""The pages of read models in a real web browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import create_engine
from starlette.requests import Request

from sa_eventsource.browser import Access
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.workers import Worker
from tests.browser.chromium.conftest import served
from tests.browser.visiting import browser_of
from tests.databases import DatabasePool
from tests.projections.bank import Base, deposit

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def allowed(request: Request) -> Access:
    """Let all act."""
    return Access(actions=True)


@pytest.fixture(scope="module")
def bank(postgres_url: str) -> Iterator[str]:
    """The address of a browser over a bank, one of whose models has parked events, while another has stopped."""
    with closing(DatabasePool(postgres_url)) as databases, databases.database() as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        deposit(engine, "ann", 10, 20)
        deposit(engine, "<script>alert(1)</script>", -5, 7)
        Worker(engine, Base, only=["parking", "stopping", "declared_parking"], retries=RetryPolicy(attempts=1)).run_once()
        with served(browser_of(Base, engine, title="Bank", actions=True, authorize=allowed)) as address:
            yield address
        engine.dispose()


@pytest.mark.parametrize(
    "path",
    [
        "/models",
        "/models/one?name=parking",
        "/models/one?name=declared_parking&sort=latest&order=descending&where=entries+%3E+1",
        "/models/rebuild?name=declared_parking",
        "/models/row?name=declared_parking&key=ann",
        "/models/row?name=declared_parking&key=ann&position=1",
    ],
)
def test_pages_of_models_have_no_fault_of_accessibility_and_fit_a_phone(page: Page, bank: str, path: str) -> None:
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.goto(bank + path)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in found] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_what_is_parked_is_reached_from_the_list_and_skipped(page: Page, bank: str) -> None:
    page.goto(f"{bank}/models")
    page.locator("a.bad", has_text="2").click()
    expect(page.locator(".parked .problem")).to_contain_text("negative: -5")
    page.get_by_role("button", name="Skip for ever").click()
    expect(page.locator("h1")).to_have_text("parking running")
    expect(page.locator(".parked")).to_have_count(0)


def test_a_row_is_reached_from_a_sorted_page_and_stepped_through_by_keys(page: Page, bank: str) -> None:
    page.goto(f"{bank}/models/one?name=declared_parking")
    page.get_by_role("link", name="latest").click()
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("latest")
    page.locator(".rows tbody a", has_text="ann").click()
    page.locator(".made-by a.version").last.click()
    expect(page.locator(".here .version")).to_have_text("1")
    page.wait_for_load_state()  # with the scripts
    page.keyboard.press("ArrowRight")
    expect(page.locator(".here .version")).to_have_text("2")
    expect(page.locator("tr.changed")).to_have_count(0)
    page.wait_for_load_state()  # with the scripts
    page.keyboard.press("ArrowLeft")
    expect(page.locator("tr.changed", has_text="entries")).to_have_count(1)
