"""Pages of long streams: each event is replayed once, from the snapshot on where one helps, and no longer than there is time."""

from __future__ import annotations

import itertools
import re
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from sa_eventsource.aggregates import advance
from sa_eventsource.event_log import stream_replay
from sa_eventsource.mapping import tables_of_base
from sa_eventsource.store import clear_payloads
from tests.bank import Deposited, Opened
from tests.browser.shop import ACCOUNT, START
from tests.browser.visiting import browser_of, visit, words_of
from tests.orders import Account, Base, Order

SNAPSHOTS = tables_of_base("test", Base).snapshots
LONG = "/stream?type=Order&id=long"
BY_TIME = f"/stream?type=Account&id={ACCOUNT}&axis=occurred"


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The versions of the events that a page replays, in order."""
    versions: list[int] = []

    def recorded(rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            versions.append(row[0])
            yield row

    def recording(view: Any, aggregate_id: str, rows: Iterable[Any], *, contiguous: bool = True) -> None:
        advance(view, aggregate_id, recorded(rows), contiguous=contiguous)

    monkeypatch.setattr(stream_replay, "advance", recording)
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


@pytest.fixture
def backwards(engine: Engine) -> Engine:
    """An account with twelve events, the later the version the earlier it occurred."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        account = Account(id=ACCOUNT)
        account.apply_event(Opened(owner="ann"), occurred_at=START)
        for number in range(1, 12):
            account.apply_event(Deposited(amount=number), occurred_at=START - timedelta(hours=number))
        session.add(account)
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
    assert "balance changed was 58 59" in words_of(visit(app, page))
    assert applied == list(range(11, 61))
    applied.clear()
    assert "balance differs 2 59" in words_of(visit(app, f"{page}&with=3"))
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


def test_by_time_replaying_takes_no_longer_and_the_page_says_how_far_it_came(backwards: Engine, ten_events_of_time: None) -> None:
    words = words_of(visit(browser_of(Base, backwards), BY_TIME))
    assert "The state is not shown Replaying took longer than 10 s, and was ended at version 10." in words
    assert "Of what had occurred by 2026-05-04 09:30" in words


def test_by_time_both_states_share_the_time(backwards: Engine, ten_events_of_time: None) -> None:
    words = words_of(visit(browser_of(Base, backwards), f"{BY_TIME}&step=7"))
    assert "What changed is not shown. Replaying took longer than 10 s, and was ended at version 9." in words
    assert "balance 56" in words


def test_by_time_what_had_occurred_is_replayed_once_for_each_of_two_states(backwards: Engine, applied: list[int]) -> None:
    words = words_of(visit(browser_of(Base, backwards), f"{BY_TIME}&step=3"))
    assert applied == [10, 11, 12, 11, 12]
    assert "balance changed was 21 30" in words


@pytest.fixture
def heavy(engine: Engine) -> Engine:
    """An order with forty events, each of which makes its state longer by 100 kB."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        order = Order.place(order_id="long")
        for number in range(2, 41):
            order.note(f"{number:05}" * 20_000)
        session.add(order)
        session.commit()
    return engine


def test_a_page_holds_the_states_that_it_shows_and_not_those_around(heavy: Engine) -> None:
    browser = browser_of(Base, heavy)
    visit(browser, f"{LONG}&version=1")
    tracemalloc.start()
    try:
        page = visit(browser, f"{LONG}&version=40&with=39")
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "Versions 39 and 40" in words_of(page)
    assert held < 60_000_000, "25 states of 2 to 4 MB, and what changed in them, took 165 MB"


def test_payloads_are_read_in_parts_by_their_length_not_by_their_number(heavy: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_replay, "_CHARACTERS", 450_000)
    parts: list[int] = []

    def recorded(connection: Any, events: Any, rows: Sequence[Any]) -> Sequence[str]:
        parts.append(len(rows))
        return clear_payloads(connection, events, rows)

    monkeypatch.setattr(stream_replay, "clear_payloads", recorded)
    visit(browser_of(Base, heavy), f"{LONG}&version=40")
    assert sum(parts) == 40
    assert max(parts) <= 6, "the order's own event is small, and five of 100 kB reach beyond 450,000 characters"


def test_no_test_is_given_events_that_are_too_long_to_be_read(heavy: Engine) -> None:
    app = browser_of(Base, heavy)
    assert "The events up to it are too many, or too long, for a test to be read." in words_of(visit(app, f"{LONG}&version=2"))
    assert "The scenario that is given these 1 event" in words_of(visit(app, f"{LONG}&version=1"))
