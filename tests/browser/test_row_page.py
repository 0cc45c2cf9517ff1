"""The page of a row: its fields, the events that made it, and the row as it was."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from html import unescape
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from sa_eventsource import EventStore
from sa_eventsource.browser import Browser
from tests.browser.library import START, Base, Book, BookBought, BookLent, BookSold, Shelf, fill, record
from tests.browser.visiting import browser_of, visit
from tests.committing import commit_events


@pytest.fixture(autouse=True)
def with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search have as long as it takes, on a busy machine too."""
    monkeypatch.setattr("sa_eventsource.browser.row_events._SECONDS", 300)
    monkeypatch.setattr("sa_eventsource.browser.log_search._SECONDS", 300)


@cache
def app_of(engine: Engine) -> Browser:
    """Make a browser, whose templates are compiled once."""
    return browser_of(Base, engine)


def row_page(engine: Engine, name: str, key: list[str], **asked: Any) -> str:
    """Ask for the page of a row."""
    found = visit(app_of(engine), "/models/row", params={"name": name, "key": key, **asked})
    assert found.status_code == 200, found.text
    return found.text


def fields_of(page: str) -> dict[str, list[str]]:
    """The cells of each field, without markup."""
    lines = re.findall(r'<tr[^>]*><th scope="row"><code>(\w+)</code>.*?</th>(.*?)</tr>', page, re.DOTALL)
    return {name: [_plain(cell) for cell in re.findall(r"<td>(.*?)</td>", cells, re.DOTALL)] for name, cells in lines}


def _plain(cell: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", cell)).strip()


def differing(page: str) -> set[str]:
    """The fields that are marked, as they differ from now."""
    return set(re.findall(r'<tr class="changed"><th scope="row"><code>(\w+)</code>', page))


def positions_of(page: str) -> list[int]:
    """The positions of the events that are listed."""
    return [int(each) for each in re.findall(r'title="The row behind this event">(\d+)</a>', page)]


def positions_in_log(engine: Engine, book_id: str) -> list[int]:
    """The positions of a book's events, newest first."""
    with Session(engine) as session:
        events = EventStore(session, base=Base).events
        return [each.position for each in reversed(events.all()) if each.aggregate_id == book_id]


@pytest.mark.parametrize("name", ["library_shared", "library_own"])
def test_a_row_has_its_fields_and_its_events_newest_first(library: Engine, name: str) -> None:
    page = row_page(library, name, ["b-003"])
    fields = fields_of(page)
    assert (fields["shelf"], fields["price"], fields["printed"], fields["version"]) == (["novels"], ["0.75"], ["1900-01-04"], ["4"])
    assert positions_of(page) == positions_in_log(library, "b-003")
    assert "&lt;b&gt;" in page


def test_the_events_of_a_row_that_many_streams_feed_follow_from_its_key(library: Engine) -> None:
    with Session(library) as session:
        events = EventStore(session, base=Base).events.all()[::-1]
    lent = [
        each.position
        for each in events
        if isinstance(each.event, BookLent) and each.event.reader == "r-0" and each.occurred_at.date() == START.date()
    ]
    assert positions_of(row_page(library, "library_days", ["2026-05-04", "r-0"])) == lent
    bought = [each.position for each in events if isinstance(each.event, BookBought) and each.event.shelf is Shelf.NOVELS]
    assert positions_of(row_page(library, "library_shelves", ["NOVELS"])) == bought


def test_a_row_is_shown_as_it_was_behind_each_event_with_differences_from_now(library: Engine) -> None:
    newest, second, first, bought = positions_in_log(library, "b-003")
    page = row_page(library, "library_shared", ["b-003"], position=first)
    fields = fields_of(page)
    assert fields["readers"] == ['["r-0"]', '["r-0", "r-1", "r-2"]']
    assert fields["version"] == ["2", "4"]
    assert differing(page) == {"due", "readers", "version", "updated_at"}
    assert f"position={bought}&amp;" in page.partition('rel="prev"')[2].partition(">")[0]
    assert f"position={second}&amp;" in page.partition('rel="next"')[2].partition(">")[0]
    assert differing(row_page(library, "library_shared", ["b-003"], position=newest)) == set()
    assert "No event had made it by then" in row_page(library, "library_shared", ["b-003"], position=bought - 1)


def test_sums_and_methods_are_folded_too(library: Engine) -> None:
    bought = positions_of(row_page(library, "library_shelves", ["NOVELS"]))
    fields = fields_of(row_page(library, "library_shelves", ["NOVELS"], position=bought[-2]))
    assert (fields["books"][0], fields["worth"][0]) == ("2", "1.00")
    _, second, *_ = positions_in_log(library, "b-003")
    fields = fields_of(row_page(library, "library_popularity", ["b-003"], position=second))
    assert (fields["lent"], fields["last_reader"]) == (["2", "3"], ["r-1", "r-2"])


def test_a_moment_is_that_of_recording(engine: Engine) -> None:
    fill(engine, 2)
    before = datetime.now(UTC)
    record(engine, "b-001", BookLent(reader="late"))
    page = row_page(engine, "library_shared", ["b-001"], at=before.isoformat())
    assert fields_of(page)["readers"] == ['["r-0"]', '["r-0", "late"]']
    assert "“soon” is no time" in unescape(row_page(engine, "library_shared", ["b-001"], at="soon"))


def test_a_row_that_was_removed_can_be_looked_at_as_it_was(engine: Engine) -> None:
    fill(engine, 2)
    record(engine, "b-001", BookSold())
    now = row_page(engine, "library_shared", ["b-001"])
    assert "There is no such row now" in now
    sold, lent, _ = positions_of(now)
    assert "That one removed it" in row_page(engine, "library_shared", ["b-001"], position=sold)
    page = row_page(engine, "library_shared", ["b-001"], position=lent)
    assert fields_of(page)["readers"] == ['["r-0"]', "no row"]
    assert "readers" in differing(page)


def test_what_cannot_be_folded_is_said_in_words(engine: Engine) -> None:
    fill(engine, 2)
    handled = row_page(engine, "library_noticed", ["1"], position=1)
    assert "written by @handles methods" in handled
    assert "Which events made it is not known" in handled
    with engine.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET declaration = 'another' WHERE projection_name = 'library_shared'"))
    assert "made under another declaration" in row_page(engine, "library_shared", ["b-001"], position=1)


def test_an_error_of_a_method_is_said_where_the_row_would_be(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(engine, 2)
    monkeypatch.setattr("sa_eventsource.browser.row_events.step", _fail)
    page = row_page(engine, "library_popularity", ["b-001"], position=100)
    assert "The events cannot be folded" in page
    assert "nobody reads" in page


def _fail(*_: Any) -> None:
    raise ValueError("nobody reads")


def test_events_are_paged_and_the_rest_is_reached_by_links(engine: Engine) -> None:
    fill(engine, 1)
    commit_events(engine, Book, "b-000", *(BookLent(reader=f"r-{number}") for number in range(60)))
    page = row_page(engine, "library_shared", ["b-000"])
    (older,) = re.findall(r'rel="next" href="([^"]+)"', page)
    rest = visit(app_of(engine), unescape(older)).text
    assert positions_of(page) + positions_of(rest) == positions_in_log(engine, "b-000")
    assert len(positions_of(page)) == 50


def test_what_names_no_row_is_refused(library: Engine) -> None:
    app = app_of(library)
    assert visit(app, "/models/row?name=nobody&key=1").status_code == 404
    for query in ("name=library_shared", "name=library_days&key=2026-05-04", "name=library_days&key=soon&key=r-0"):
        assert visit(app, f"/models/row?{query}").status_code == 400, query
    assert visit(app, "/models/row?name=library_shared&key=b-001&position=-1").status_code == 400
    assert "No event belongs to it" in row_page(library, "library_shared", ["nothing"])
