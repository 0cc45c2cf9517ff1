"""Pages of long streams: each event is replayed once, from the snapshot on where one helps, and no longer than there is time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from sa_eventsource.aggregates import advance
from sa_eventsource.event_log import stream_replay
from sa_eventsource.mapping import tables_of_base
from tests.browser.shop import ACCOUNT
from tests.browser.visiting import browser_of, visit, words_of
from tests.orders import Account, Base, Order

SNAPSHOTS = tables_of_base("test", Base).snapshots
LONG = "/stream?type=Order&id=long"


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The versions of the events that a page replays, in order."""
    versions: list[int] = []

    def recorded(rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            versions.append(row[0])
            yield row

    monkeypatch.setattr(stream_replay, "advance", lambda view, aggregate_id, rows: advance(view, aggregate_id, recorded(rows)))
    return versions


@pytest.fixture
def ten_events_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which a second is over at each look, for a page that has ten."""
    ticks: Iterator[int] = itertools.count()
    monkeypatch.setattr(stream_replay, "time", SimpleNamespace(monotonic=lambda: next(ticks)))


@pytest.fixture
def long(engine: Engine) -> Engine:
    """An order with sixty events."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        order = Order.place(order_id="long")
        for number in range(2, 61):
            order.note(f"n{number}")
        session.add(order)
        session.commit()
    return engine


@pytest.mark.parametrize("characters", [1, 4_000_000])
@pytest.mark.parametrize(("version", "other"), [(60, 2), (60, 50), (2, 60)])
def test_two_versions_are_compared_in_one_pass_up_to_the_higher(
    long: Engine, applied: list[int], monkeypatch: pytest.MonkeyPatch, version: int, other: int, characters: int
) -> None:
    monkeypatch.setattr(stream_replay, "_CHARACTERS", characters)
    monkeypatch.setattr(stream_replay, "_FIRST_PART", 7)
    words = words_of(visit(browser_of(Base, long), f"{LONG}&version={version}&with={other}"))
    assert applied == list(range(1, 61))
    assert f"Versions {other} and {version}" in words
    one, two = (",".join(f'"n{number}"' for number in range(2, each + 1)) for each in (other, version))
    assert f"notesdiffers[{one}][{two}]" in words.replace(" ", "")


def test_a_snapshot_on_the_way_is_taken(engine: Engine, applied: list[int]) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        account = Account.open(account_id=ACCOUNT)
        for _ in range(9):
            account.deposit(1)
        session.add(account)
        session.commit()
        kept = session.execute(select(SNAPSHOTS)).one()._mapping
        for _ in range(50):
            account.deposit(1)
        session.commit()
        session.execute(update(SNAPSHOTS).values({name: kept[name] for name in ("version", "event_id", "state")}))
        session.commit()
    app, page = browser_of(Base, engine), f"/stream?type=Account&id={ACCOUNT}"
    assert 'balance changed was "58" "59"' in words_of(visit(app, page))
    assert applied == list(range(11, 61))
    applied.clear()
    assert 'balance differs "2" "59"' in words_of(visit(app, f"{page}&with=3"))
    assert applied == [1, 2, 3, *range(11, 61)]


def test_where_replaying_takes_too_long_the_page_says_how_far_it_came(long: Engine, ten_events_of_time: None) -> None:
    page = visit(browser_of(Base, long), f"{LONG}&version=50")
    words = words_of(page)
    assert "The state at version 50 is not shown" in words
    assert "Replaying took longer than 10 s, and was ended at version 10." in words
    assert re.findall(r'<span class="version">(\d+)</span>', page.text) == [str(each) for each in range(36, 61)]
    assert words.count("not replayed") == 25
    assert "35 earlier events" in words


def test_what_was_replayed_in_time_is_shown(long: Engine, ten_events_of_time: None) -> None:
    words = words_of(visit(browser_of(Base, long), f"{LONG}&version=5&with=60"))
    assert "State at version 5" in words
    assert words.count("not replayed") == 15
    assert "Version 60 is not compared. Replaying took longer than 10 s, and was ended at version 10." in words
