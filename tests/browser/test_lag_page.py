"""The page of lag and rate over time: samples in its address, taken while it is open."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from httpx import Response
from sqlalchemy import Engine

from sa_eventsource import ReadModelManager
from sa_eventsource.browser.lag_samples import Count, Sample, read_samples, write_samples
from sa_eventsource.workers import Worker
from tests.browser.visiting import browser_of, visit, words_of
from tests.projections.bank import Base, DeclaredParking, deposit

NAME = "declared_parking"


@pytest.fixture
def bank(engine: Engine) -> Engine:
    """A bank of which a model has taken three events."""
    Base.metadata.create_all(engine)
    deposit(engine, "ann", 1, 2, 3)
    take(engine)
    return engine


def take(engine: Engine, name: str = NAME) -> None:
    """Let a follower take all that it has yet to take."""
    Worker(engine, Base, only=[name]).run_once()


def link(page: Response, part: str) -> str:
    """The address of a page's link or poll that has a part."""
    found = [html.unescape(each) for each in re.findall(r'(?:href|hx-get)="([^"]+)"', page.text)]
    return next(each for each in found if part in each)


def samples_of(address: str) -> list[Sample]:
    """The samples that an address keeps."""
    return read_samples(re.findall(r"samples=([^&]+)", address)[0])


def another(engine: Engine, address: str) -> str:
    """Take one more sample without JavaScript; give the address that this leads to."""
    app = browser_of(Base, engine)
    answer = visit(app, link(visit(app, address), "/followers/lag/sample"))
    assert answer.status_code == 303
    return answer.headers["location"]


def test_samples_are_taken_one_by_one_and_the_address_shows_the_same_to_others(bank: Engine) -> None:
    app = browser_of(Base, bank)
    first = visit(app, f"/followers/lag?name={NAME}")
    assert "Lag over time is drawn from the second sample on" in words_of(first)
    address = link(first, "/followers/lag/sample").replace("/sample", "")
    deposit(bank, "ann", *range(5))
    address = another(bank, address)
    take(bank)
    deposit(bank, "bob", 1, 2)
    address = another(bank, address)
    samples = samples_of(address)
    assert [(each.lag, each.taken) for each in samples] == [
        (Count(0), None),
        (Count(5), Count(0)),
        (Count(2), Count(5)),
    ]
    assert samples[1].age > timedelta()
    shown = [visit(app, address) for _ in range(2)]
    assert words_of(shown[0]).partition("The address keeps")[2] == words_of(shown[1]).partition("The address keeps")[2]
    assert re.search(r"It took 5 events, \S+ a second, while \S+ a second came in\. It falls further behind\.", words_of(shown[0]))
    assert "hx-get" not in shown[0].text
    assert 'aria-label="Events behind: from 0 to 2, at most 5"' in shown[0].text


def test_a_page_that_is_open_polls_and_its_address_becomes_that_of_what_it_shows(bank: Engine) -> None:
    app = browser_of(Base, bank)
    page = visit(app, f"/followers/lag?name={NAME}")
    for number in (2, 3):
        page = visit(app, link(page, "/followers/lag/news"))
        address = page.headers["HX-Replace-Url"]
        assert len(samples_of(address)) == number
        assert "/followers/lag/news" in page.text
        assert "<html" not in page.text
    assert "hx-get" not in visit(app, address).text
    going_on = visit(app, link(visit(app, address), "live=1"))
    assert len(samples_of(link(going_on, "/followers/lag/news"))) == 4


def test_it_says_of_which_moment_the_rows_are(bank: Engine) -> None:
    app = browser_of(Base, bank)
    assert "Its rows show the state of now" in words_of(visit(app, f"/models/one?name={NAME}"))
    deposit(bank, "ann", 4)
    (status,) = ReadModelManager(bank, Base).status(DeclaredParking)
    assert status.lag_since is not None
    shown = f"{status.lag_since.replace(tzinfo=None).isoformat(sep=' ', timespec='milliseconds')}"
    for path in (f"/models/one?name={NAME}", f"/followers/lag?name={NAME}"):
        assert re.search(rf"Its rows show the state of {re.escape(shown)} , \S+ (ms|s|min) ago", words_of(visit(app, path)))
    assert "Last event taken position 3 , recorded" in words_of(visit(app, f"/followers/lag?name={NAME}"))


def test_what_each_part_of_a_model_takes_is_added_up(bank: Engine) -> None:
    app = browser_of(Base, bank)
    take(bank, "branch_total")
    address = link(visit(app, "/followers/lag?name=branch_total"), "/followers/lag/sample").replace("/sample", "")
    for name in ("ann", "bob", "cleo", "dora", "emil"):
        deposit(bank, name, 1, 2)
    take(bank, "branch_total")
    address = another(bank, address)
    parts = 4 if bank.dialect.name == "postgresql" else 1
    assert len(re.findall(r"positions=([^&]+)", address)[0].split("-")) == parts
    assert samples_of(address)[-1].taken == Count(10)
    split_anew = another(bank, re.sub(r"positions=[^&]+", "positions=1-2-3", address))
    gone_back = another(bank, re.sub(r"positions=[^&]+", "positions=" + "-".join(["99999"] * parts), address))
    assert [samples_of(each)[-1].taken for each in (split_anew, gone_back)] == [None, None]
    assert "How many events it took is not known" in words_of(visit(app, split_anew))


def test_more_than_is_counted_is_said_to_be_more(bank: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sa_eventsource.browser.pages.lag_page._MOST_TAKEN", 4)
    address = link(visit(browser_of(Base, bank), f"/followers/lag?name={NAME}"), "/followers/lag/sample").replace("/sample", "")
    deposit(bank, "ann", *range(5))
    take(bank)
    address = another(bank, address)
    assert samples_of(address)[-1].taken == Count(4, is_whole=False)
    assert "It took more than 4 events" in words_of(visit(browser_of(Base, bank), address))


def test_what_no_page_has_written_is_refused(bank: Engine) -> None:
    app = browser_of(Base, bank)
    kept = write_samples(samples_of(link(visit(app, f"/followers/lag?name={NAME}"), "/followers/lag/sample")))
    hostile = "%3Cscript%3Ealert(1)%3C/script%3E"
    for query in (f"samples={hostile}&positions=1", f"samples={kept}&positions={hostile}", f"samples={kept}", f"samples={kept}-1"):
        for path in ("/followers/lag", "/followers/lag/news", "/followers/lag/sample"):
            answer = visit(app, f"{path}?name={NAME}&{query}")
            assert (answer.status_code, "<script>alert" in answer.text) == (400, False)
    assert "Nothing that follows the log is called nobody" in visit(app, "/followers/lag?name=nobody").text
