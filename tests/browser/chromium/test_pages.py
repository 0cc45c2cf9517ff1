"""Every page in a real web browser: no fault of accessibility in light and dark, on a phone, by keyboard, without scripts."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.shop import ACCOUNT, CORRELATION
from tests.browser.story import STRANGE, event_id

STREAM = "/stream?type=Order&id=order-004&version=2"
PAGES = {
    "log": "/log?aggregate=Account",
    "log filtered": "/log?type=shop.OrderPaid&where=payment_id+%3D+PAY-7703&since=x",
    "log live": "/log?live=1&aggregate=Account",
    "stream": STREAM,
    "stream compared": f"{STREAM}&with=1",
    "stream then": f"/stream?type=Account&id={ACCOUNT}&axis=occurred",
    "causation": f"/events/{event_id(6)}/causation",
    "correlation": f"/correlation?correlation={event_id(1)}",
    "not found": "/nowhere",
}
"""An address of each page; a new page adds its own."""

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_a_page_has_no_fault_of_accessibility_and_fits_a_phone(page: Page, shop: str, path: str) -> None:
    if path == "/nowhere":
        page.route("**/nowhere", lambda route: route.fulfill(response=route.fetch(), status=200))  # else Chromium complains
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.goto(shop + path)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in found] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_an_event_has_a_page_of_its_own(page: Page, shop: str) -> None:
    page.goto(f"{shop}/log?aggregate=Order&id=order-004&type=shop.OrderPlaced")
    page.locator("td.type a").click()
    expect(page.locator("h1")).to_have_text("shop.OrderPlaced")
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        assert [each["id"] for each in Axe().run(page).response["violations"]] == []


def test_hostile_texts_are_shown_as_texts(page: Page, shop: str) -> None:
    page.goto(shop + "/log")
    row = page.locator("tr", has_text="gpj.exe").first
    expect(row).to_contain_text("<script>alert(")
    expect(row).to_contain_text("{{ 7 * 7 }} \\u202egpj.exe")
    row.locator(".stream").click()
    expect(page.locator("h1")).to_have_text('Order <b>"order" / ?&#')
    expect(page.locator(".state")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("img[src=x]").count() == 0
    assert "\u202e" not in page.content()


def test_a_payload_of_5_mb_is_cut_and_can_be_had_as_a_whole(page: Page, shop: str) -> None:
    page.goto(shop + "/log")
    row = page.locator("tr", has_text="order-large v2").first
    assert len(row.inner_text()) < 2_000
    row.locator("td.type a").click()
    assert len(page.content()) < 100_000
    expect(page.locator(".cut")).to_contain_text("20\u202f000")
    answer = page.request.get(shop + str(page.get_by_role("link", name="Show all of it").get_attribute("href")))
    assert len(answer.text()) > 5_000_000


def test_arrow_keys_step_through_versions(page: Page, shop: str) -> None:
    page.goto(shop + STREAM)
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile("version=3"))
    expect(page.locator("#where")).to_have_text("Version 3 of 3")
    expect(page.locator("tr.changed").first).to_contain_text("status")
    for version in (2, 1):
        page.keyboard.press("ArrowLeft")
        page.wait_for_url(re.compile(f"version={version}"))  # until its scripts are there too
        expect(page.locator("#where")).to_have_text(f"Version {version} of 3")


def test_the_slider_steps_too_and_the_address_follows(page: Page, shop: str) -> None:
    page.goto(shop + STREAM)
    page.locator("#slider").press("ArrowRight")
    expect(page.locator("#where")).to_have_text("Version 3 of 3")
    expect(page.locator("#life h2#state")).to_have_text("State at version 3")
    expect(page).to_have_url(re.compile("version=3"))
    page.reload()
    expect(page.locator("#where")).to_have_text("Version 3 of 3")


def test_a_scenario_is_copied_by_a_button(page: Page, shop: str) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(shop + STREAM)
    page.locator("#slider").press("ArrowRight")  # what htmx has brought has a button too
    expect(page.locator("#where")).to_have_text("Version 3 of 3")
    page.get_by_text("The scenario that is given these 3 events").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith('scenario(Order, "order-004").given(')
    assert copied == page.locator("pre[data-copy]").inner_text()


def test_new_events_come_to_a_live_log(page: Page, shop: str) -> None:
    page.clock.install()
    page.goto(shop + "/log?live=1")
    first = page.locator("td.position").first.inner_text()
    with page.expect_response(re.compile("/log/news")) as answered:
        page.clock.run_for(2_100)
    assert answered.value.status == 200
    expect(page.locator("td.position").first).to_have_text(first)


def test_without_scripts_all_is_links_and_forms(without_scripts: Page, shop: str) -> None:
    page = without_scripts
    page.goto(shop + "/log")
    page.get_by_label("Payload").fill('payment_id = "PAY-7703"')
    page.get_by_role("button", name="Filter").click()
    assert page.locator("tbody tr:not(.day-row)").count() == 1
    page.locator(".stream").first.click()
    page.get_by_role("link", name="Previous").click()
    expect(page.locator("#where")).to_have_text("Version 1 of 3")
    page.get_by_label("Compare with version").fill("3")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("h2#state")).to_have_text("Versions 3 and 1")


def test_a_keyboard_reaches_the_content_at_once(page: Page, shop: str) -> None:
    page.goto(shop + "/log")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_a_correlation_has_an_address(phone: Page, shop: str) -> None:
    phone.goto(f"{shop}/log?correlation={quote(str(CORRELATION))}")
    assert phone.locator("tbody tr:not(.day-row)").count() == 7
    assert phone.evaluate("document.documentElement.scrollWidth") == 390


def test_events_in_pictures_are_reached_by_keyboard(page: Page, shop: str) -> None:
    page.goto(f"{shop}/events/{event_id(6)}/causation")
    page.get_by_role("region", name="Tree of events").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator("svg a:focus")).to_have_attribute("aria-label", re.compile("shop.OrderPaid, Order story-1, version 2"))
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(f"/events/{event_id(2)}$"))
    page.get_by_role("link", name="Causes and effects").click()
    expect(page.locator("h1")).to_contain_text("shop.OrderPaid")


def test_pictures_show_hostile_texts_as_texts(page: Page, shop: str) -> None:
    page.goto(f"{shop}/correlation?correlation={event_id(1)}")
    expect(page.locator("svg").first).to_contain_text(STRANGE.replace("\u202e", "\\u202e"))
    assert page.locator("svg script").count() == 0
