"""The page of a stream replayed by other code: who may, what is shown, and what is said where it cannot be."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sa_eventsource.browser import Access, Browser, OtherCode
from tests.browser.visiting import browser_of, visit
from tests.replays.other_parcels import REFERENCE, make_repository, parcel
from tests.replays.parcels import Base

SECONDS = 120.0
STREAM = "/stream/code?type=replays.Parcel&id=p-1"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with other code for parcels."""
    return make_repository(tmp_path_factory.mktemp("repository"))


def shown(page: str) -> str:
    """Read a page's text, white space folded."""
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", page)).split())


def allowed(request: Any) -> Access:
    """Let all replay streams by other code."""
    return Access(other_code=True)


@pytest.fixture
def parcels(engine: Engine, repository: Path) -> Browser:
    """A browser over a parcel that was weighed 40 times, heavy from version 30 on."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(parcel(*(500 if version < 30 else 2_000 for version in range(2, 42))))
        session.commit()
    code = OtherCode(REFERENCE, ["dearer", "raising", "nowhere"], repository=repository, seconds=SECONDS)
    return browser_of(Base, engine, other_code=code, authorize=allowed)


def test_it_is_there_only_where_both_browser_and_reader_have_it(parcels: Browser, engine: Engine) -> None:
    for app in (browser_of(Base, engine, authorize=allowed), browser_of(Base, engine, other_code=parcels._other_code)):
        assert visit(app, f"{STREAM}&code=dearer").status_code == 404
        assert "With other code" not in visit(app, "/stream?type=replays.Parcel&id=p-1").text
    assert 'href="/stream/code?type=replays.Parcel&amp;id=p-1"' in visit(parcels, "/stream?type=replays.Parcel&id=p-1").text
    with pytest.raises(TypeError, match="takes OtherCode"):
        browser_of(Base, engine, other_code="main")


def test_a_path_that_no_system_takes_may_not_be_chosen_either(parcels: Browser) -> None:
    for name in ("./" + "a" * 5_000, "app.orders=/" + "a" * 5_000):
        page = visit(parcels, STREAM, params={"type": "replays.Parcel", "id": "p-1", "code": name})
        assert (page.status_code, "it may not be chosen here" in page.text) == (200, True)


def test_without_a_version_it_shows_where_the_states_part(parcels: Browser) -> None:
    page = visit(parcels, f"{STREAM}&code=dearer")
    text = shown(page.text)
    assert page.status_code == 200
    assert "The states part at version 30" in text
    assert "price differs from version 30 on" in text
    assert "State at version 30" in text
    assert "price differs 600 changed here 690 changed here" in text
    assert re.findall(r'<span class="version">(\d+)</span>', page.text) == [str(each) for each in range(26, 42)]
    assert "25 earlier events" in text
    assert text.count("the same") == 4
    assert "dearer is" in text
    assert "90 if event.grams" in text


def test_each_version_has_an_address_and_links_to_the_next_difference(parcels: Browser) -> None:
    page = visit(parcels, f"{STREAM}&code=dearer&version=3").text
    assert 'href="/stream/code?version=30&amp;type=replays.Parcel&amp;id=p-1&amp;code=dearer" aria-keyshortcuts="n"' in page
    assert 'rel="next" aria-keyshortcuts="ArrowRight"' in page
    assert "16 later events" in page
    assert "State at version 3" in shown(page)


def test_where_the_code_raises_is_said_and_texts_stay_texts(parcels: Browser) -> None:
    page = visit(parcels, f"{STREAM}&code=raising").text
    assert "raising came to version 29 of 41, and no further." in shown(page)
    assert "ValueError: too heavy: \\u202e <b>" in shown(page)
    assert "\u202e" not in page
    assert "State at version 30" in page
    assert "not replayed" in page


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("&code=nowhere", 200, "nowhere cannot be used: there is no such revision"),
        ("&code=same", 200, "same cannot be used: it may not be chosen here"),
        ("&code=dearer&version=42", 404, "not among the 41"),
        ("&code=dearer&version=x", 400, "no whole number"),
        ("", 200, "Replay with"),
    ],
)
def test_what_cannot_be_shown_is_named(parcels: Browser, query: str, status: int, message: str) -> None:
    answer = visit(parcels, STREAM + query)
    assert (answer.status_code, message in shown(answer.text)) == (status, True)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "whatever comes"])
def test_a_link_from_another_site_runs_nothing(parcels: Browser, monkeypatch: pytest.MonkeyPatch, site: str) -> None:
    monkeypatch.setattr(OtherCode, "compare", lambda *_: pytest.fail("it ran"))
    answer = visit(parcels, f"{STREAM}&code=dearer", headers={"Sec-Fetch-Site": site})
    assert '<option value="dearer" selected>' in answer.text


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_an_address_that_is_typed_or_followed_here_runs_it(parcels: Browser, site: str) -> None:
    assert "The states part" in visit(parcels, f"{STREAM}&code=dearer", headers={"Sec-Fetch-Site": site}).text


def test_a_stream_is_not_read_before_it_can_be_replayed(parcels: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sa_eventsource.browser.pages.code_page.read_history", lambda *_, **__: pytest.fail("it was read"))
    other = parcels._other_code
    assert other is not None
    monkeypatch.setattr(other, "_seconds", 0.2)
    with other.turn("dearer"):  # by this thread; pages are answered in another
        text = shown(visit(parcels, f"{STREAM}&code=dearer").text)
    assert "another replay is running" in text
    assert "it may not be chosen here" in shown(visit(parcels, f"{STREAM}&code=same").text)


def test_any_revision_may_be_typed_where_that_is_allowed(parcels: Browser, engine: Engine, repository: Path) -> None:
    code = OtherCode(REFERENCE, any_revision=True, repository=repository, seconds=SECONDS)
    page = visit(browser_of(Base, engine, other_code=code, authorize=allowed), f"{STREAM}&code=dearer~0&version=1").text
    assert '<input id="code" name="code"' in page
    assert "dearer~0 is" in shown(page)
