"""Rows of read models of all sorts: filtered, sorted, paged."""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from sa_eventsource.browser import Browser
from tests.browser.library import Base, LentOnDay, OnShelf, OwnBook, SharedBook, fill
from tests.browser.visiting import browser_of, visit
from tests.statement_log import record_executions

BOTH = ("library_shared", "library_own")


@cache
def app_of(engine: Engine) -> Browser:
    """Make a browser, whose templates are compiled once."""
    return browser_of(Base, engine)


def page_of(engine: Engine, name: str, **asked: Any) -> str:
    """Ask for a page of a model."""
    found = visit(app_of(engine), "/models/one", params={"name": name, **asked})
    assert found.status_code == 200, found.text
    return found.text


def ids_of(page: str) -> list[str]:
    """The first cell of each row that a page shows."""
    return re.findall(r"<tr><td[^>]*><a[^>]*>(.*?)</a></td>", page.partition('id="rows"')[2])


def all_pages(engine: Engine, name: str, **asked: Any) -> list[str]:
    """Read all rows, page by page, as the links lead."""
    page = page_of(engine, name, **asked)
    found = ids_of(page)
    while links := re.findall(r'rel="next" href="([^"#]+)', page):
        page = visit(app_of(engine), unescape(links[0])).text
        found += ids_of(page)
    return found


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("price > 14.5", ["b-059"]),
        ("price = 14.50", ["b-058"]),
        ("price >= 14.5 and shelf = novels", ["b-059"]),
        ("shelf = NOVELS and price < 1", ["b-001", "b-003"]),
        ("shelf != novels and price < 1", ["b-000", "b-002"]),
        ("is_rare = true and price < 1", ["b-000", "b-003"]),
        ("printed < 1900-01-05", ["b-000", "b-003"]),
        ("printed = null and price < 1", ["b-001", "b-002"]),
        ("printed != null and price < 1", ["b-000", "b-003"]),
        ("due > 2026-07-03T09:29 and version > 1", ["b-059"]),
        ("id = b-007", ["b-007"]),
        ('id = "b-007"', ["b-007"]),
        ("version = 4 and price < 2", ["b-003", "b-007"]),
        ("readers.0 = r-0 and price < 1", ["b-001", "b-002", "b-003"]),
        ("version > 3.5 and price < 1", ["b-003"]),
        ("updated_at > 2026-05-06T20:30", ["b-059"]),
    ],
)
def test_rows_are_filtered_by_any_column_as_what_it_holds(library: Engine, name: str, where: str, expected: list[str]) -> None:
    assert ids_of(page_of(library, name, where=where)) == expected


def test_texts_are_searched_in_any_case_and_shown_as_texts(library: Engine) -> None:
    page = page_of(library, "library_shared", where='title ~ "TITLE 6 <"')
    assert ids_of(page) == [f"b-{each:03}" for each in range(6, 60, 7)]
    assert "Title 6 &lt;b&gt;" in page


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("price > cheap", "“cheap” is no value of price, which is a number"),
        ("shelf = attic", "one of novels, science"),
        ("is_rare = perhaps", "true or false"),
        ("printed > soon", "a date, such as 2026-05-04"),
        ("due > soon", "a time, such as"),
        ("colour = red", "There is no column “colour”. There are: id, title"),
        ("price ~ 1", "price is no text"),
        ("title.deep = 1", "title is no document"),
        ("readers = r-0", "readers is a document"),
        ("price >", "is no condition"),
    ],
)
def test_what_cannot_be_read_is_said_at_the_filter(library: Engine, where: str, message: str) -> None:
    page = page_of(library, "library_shared", where=where)
    assert 'aria-invalid="true"' in page
    assert message in unescape(page)
    assert ids_of(page) == []


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("sort", ["id", "title", "shelf", "price", "is_rare", "printed", "due", "version", "updated_at"])
@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_rows_are_sorted_by_any_column_over_all_pages_and_none_comes_last(
    library: Engine, name: str, sort: str, order: str
) -> None:
    column = "book_title" if (name, sort) == ("library_own", "title") else sort
    model: Any = {"library_shared": SharedBook, "library_own": OwnBook}[name]
    with Session(library) as session:
        values = {row.id: getattr(row, sort) for row in session.query(model)}
    by_id = sorted(values, reverse=order == "descending")
    there = [each for each in by_id if values[each] is not None]
    there.sort(key=lambda each: getattr(values[each], "value", values[each]), reverse=order == "descending")
    assert all_pages(library, name, sort=column, order=order) == [*there, *(each for each in by_id if values[each] is None)]


def test_filter_and_order_go_together_over_pages(library: Engine) -> None:
    found = all_pages(library, "library_own", sort="price", order="descending", where="price > 1")
    assert found == [f"b-{each:03}" for each in range(59, 4, -1)]


def test_an_empty_text_is_a_value_that_a_page_can_begin_behind(engine: Engine) -> None:
    fill(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE library_own SET book_title = ''"))
    assert len(set(all_pages(engine, "library_own", sort="book_title"))) == 60


@pytest.mark.parametrize(("name", "model"), [("library_days", LentOnDay), ("library_shelves", OnShelf)])
def test_keys_of_several_parts_and_of_enumerations_are_paged(library: Engine, name: str, model: Any) -> None:
    with Session(library) as session:
        rows = session.query(model).all()
    assert len(all_pages(library, name)) == len(all_pages(library, name, order="descending")) == len(rows)


def test_rows_that_handlers_write_are_filtered_by_their_columns(library: Engine) -> None:
    page = page_of(library, "library_noticed", where='title ~ "Title 6" and number > 1', sort="number", order="descending")
    assert len(ids_of(page)) == 8


def test_what_no_page_asks_for_is_refused(library: Engine) -> None:
    app = app_of(library)
    for query in ("sort=colour", "sort=readers", "after=a&after=b", "sort=price&after=b-001&value=much"):
        assert visit(app, f"/models/one?name=library_own&{query}").status_code == 400, query
    assert visit(app, "/models/one?name=library_days&after=2026-05-04").status_code == 400


@pytest.mark.parametrize("name", BOTH)
def test_an_index_serves_conditions_and_order(postgres_engine: Engine, name: str) -> None:
    fill(postgres_engine, 4)
    title = "book_title" if name == "library_own" else "title"
    with record_executions(postgres_engine) as statements:
        page_of(postgres_engine, name, where=f'{title} >= "Title 1"', sort=title, order="descending")
    statement, parameters = next(each for each in statements if "IS NOT NULL" in each[0] and "LIMIT" in each[0])
    with postgres_engine.connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars().all()
    index = "ix_library_own_book_title" if name == "library_own" else "ix_library_shared_title"
    assert any(f"Index Scan Backward using {index}" in line for line in plan), plan


def test_a_slow_question_is_cut_off_and_the_rest_of_the_page_is_there(postgres_engine: Engine) -> None:
    fill(postgres_engine, 4)
    with postgres_engine.begin() as connection:
        connection.execute(text("ALTER TABLE library_own RENAME TO library_stored"))
        connection.execute(
            text("CREATE VIEW library_own AS SELECT library_stored.* FROM library_stored, LATERAL (SELECT pg_sleep(60)) AS slow")
        )
    found = visit(browser_of(Base, postgres_engine, seconds=0.5), "/models/one?name=library_own")
    assert found.status_code == 200
    assert "This took longer than 0.5 s, and was ended" in found.text
    assert "book_title" in found.text.partition("An index serves")[2].partition("</div>")[0]
    assert "What each event does" in found.text
