"""The page of a stream replayed by other code, in a real web browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from starlette.requests import Request

from sa_eventsource.browser import Access, OtherCode
from tests.browser.chromium.conftest import PATIENCE, served
from tests.browser.visiting import browser_of
from tests.databases import DatabasePool
from tests.replays.other_parcels import REFERENCE, make_repository, parcel
from tests.replays.parcels import Base

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
STREAM = "/stream/code?type=replays.Parcel&id=p-1"


def allowed(request: Request) -> Access:
    """Let all replay streams by other code."""
    return Access(other_code=True)


@pytest.fixture(scope="module")
def parcels(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a browser over a parcel that was weighed six times."""
    repository = make_repository(tmp_path_factory.mktemp("repository"))
    code = OtherCode(REFERENCE, ["raising", "dearer", "settings"], repository=repository, seconds=PATIENCE / 1_000)
    with closing(DatabasePool(postgres_url)) as databases, databases.database() as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(parcel(500, 2_000, 500, 500, 2_000, 2_000))
            session.commit()
        with served(browser_of(Base, engine, title="Parcels", other_code=code, authorize=allowed)) as address:
            yield address
        engine.dispose()


@pytest.mark.parametrize("query", ["", "&code=dearer", "&code=raising", "&code=settings"])
def test_the_page_has_no_fault_of_accessibility_and_fits_a_phone(page: Page, parcels: str, query: str) -> None:
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.goto(parcels + STREAM + query)
        for details in page.locator("details").all():
            details.evaluate("each => each.open = true")
        found = Axe().run(page).response["violations"]
        assert [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in found] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_from_the_stream_by_keyboard_to_each_difference(page: Page, parcels: str) -> None:
    page.goto(f"{parcels}/stream?type=replays.Parcel&id=p-1")
    page.get_by_role("link", name="With other code").click()
    page.get_by_label("Replay with").select_option("dearer")
    page.get_by_role("button", name="Replay").click()
    page.wait_for_url(re.compile("code=dearer"))  # until its scripts are there too
    expect(page.locator("#where")).to_have_text("Version 3 of 7")
    for key, version in (("n", 6), ("p", 3), ("ArrowRight", 4)):
        page.keyboard.press(key)
        page.wait_for_url(re.compile(f"version={version}"))
        expect(page.locator("#where")).to_have_text(f"Version {version} of 7")
    expect(page.locator(".side-by-side tr.changed")).to_have_count(0)


def test_the_slider_asks_for_other_versions_too(page: Page, parcels: str) -> None:
    page.goto(f"{parcels}{STREAM}&code=dearer&version=2")
    page.locator("#slider").press("ArrowRight")
    expect(page.locator("#where")).to_have_text("Version 3 of 7")
    expect(page.locator(".side-by-side tr.changed th")).to_contain_text("price")
    expect(page).to_have_url(re.compile("version=3"))
