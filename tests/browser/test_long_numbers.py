"""Numbers in an address that are longer than Python reads, or than the database holds: the page says so in its own words."""

from __future__ import annotations

from functools import cache

import pytest
from sqlalchemy import Engine

from sa_eventsource.browser import Browser
from tests.browser.library import Base
from tests.browser.visiting import browser_of, visit

LONG = "9" * 4_301
FAR = "9" * 20
KEY = "name=library_own&key=b-001"


@cache
def app_of(engine: Engine) -> Browser:
    """Make a browser, whose templates are compiled once."""
    return browser_of(Base, engine)


@pytest.mark.parametrize("number", [LONG, FAR])
@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/log?where=lines.{}=1", 200, "is no place in a list"),
        ("/log?metadata=lines.{}.sku=1", 200, "is no place in a list"),
        ("/log?where=total>{}", 200, None),
        ("/log?before={}", 400, "is no whole number"),
        ("/log?after={}", 400, "is no whole number"),
        ("/log?at={}", 200, "is no time"),
        ("/log?since={}", 200, "is no time"),
        ("/log?correlation={}", 200, "is not a UUID"),
        ("/log/news?seen={}", 400, "is nothing that a page has seen"),
        ("/stream?type=library.Book&id=b-001&version={}", 400, "is no whole number"),
        ("/stream?type=library.Book&id=b-001&with={}", 400, "is no whole number"),
        ("/models/row?" + KEY + "&position={}", 400, "is no whole number"),
        ("/models/row?" + KEY + "&before={}", 400, "is no whole number"),
        ("/models/one?name=library_own&where=readers.{}=1", 200, "is no place in a list"),
        ("/models/one?name=library_own&where=version={}", 200, "is no value of version"),
        ("/models/one?name=library_own&sort=version&after=b-001&value={}", 400, "is no value of version"),
        ("/correlation?correlation={}", 400, "is not a UUID"),
    ],
)
def test_a_long_number_is_named(library: Engine, path: str, status: int, message: str | None, number: str) -> None:
    answer = visit(app_of(library), path.format(number))
    assert answer.status_code == status, answer.text
    assert message is None or message in answer.text
    for words in ("Exceeds the limit", "Something went wrong", "The database"):
        assert words not in answer.text
