"""The page of a stream: each version has an address, and says what is wrong where something is."""

from __future__ import annotations

import datetime as dt
import html
import re
from datetime import UTC, datetime
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import DomainEvent
from sa_eventsource.browser.event_code import scenario_code
from sa_eventsource.mapping import tables_of_base
from tests.bank import AnyAccount, Deposited
from tests.browser.shop import ACCOUNT, sell
from tests.browser.visiting import browser_of, visit
from tests.committing import commit_events
from tests.orders import Base, Order
from tests.shop import Line, NoteAdded, OrderPlaced, OrderStatus


def shown(page: str) -> str:
    """Read a page's text, white space folded."""
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", page)).split())


@pytest.fixture
def shop(engine: Engine) -> Any:
    """A browser over a shop's events."""
    Base.metadata.create_all(engine)
    sell(engine)
    return browser_of(Base, engine, source_link="https://git.example/{path}#L{line}")


def test_each_version_has_an_address(shop: Any) -> None:
    first = visit(shop, "/stream?type=Order&id=order-004&version=1").text
    assert 'status changed was "draft" "placed"' in shown(first)
    assert "State at version 1" in first
    line = next(n for n, each in enumerate(Path("tests/shop.py").read_text().splitlines(), 1) if "def _placed" in each) - 1
    assert f'href="https://git.example/tests/shop.py#L{line}"' in first
    assert f"sa_eventsource {metadata.version('sa_eventsource')}" in first  # and not the version of the aggregate
    assert "Version 3 of 3" in visit(shop, "/stream?type=Order&id=order-004").text
    assert "Version 3 of 3" in visit(shop, "/stream?type=Order&id=order-004&version=99").text
    assert visit(shop, "/stream?type=Order&id=order-004&version=0").status_code == 400


def test_the_scenario_runs(shop: Any) -> None:
    page = visit(shop, "/stream?type=Order&id=order-004&version=2").text
    code = html.unescape(re.findall(r'aria-label="Scenario" data-copy>(.*?)</pre>', page, re.DOTALL)[0])
    assert 'OrderPaid(payment_id="PAY-7703")' in code
    from sa_eventsource.testing import scenario
    from tests import orders
    from tests import shop as events

    given = eval(code, {**vars(events), **vars(orders), "scenario": scenario, "Decimal": Decimal})
    given.when(lambda order: order.ship()).state(status=OrderStatus.SHIPPED)


def test_two_versions_are_compared(shop: Any) -> None:
    page = shown(visit(shop, "/stream?type=Order&id=order-004&version=3&with=1").text)
    assert "Versions 1 and 3" in page
    assert 'status differs "placed" "shipped"' in page
    assert 'customer_id "c-3" "c-3"' in page


def test_by_time_an_aggregate_is_what_it_was(shop: Any) -> None:
    by_version = shown(visit(shop, f"/stream?type=Account&id={ACCOUNT}&version=3").text)
    assert "balance changed was 10 40" in by_version
    by_time = shown(visit(shop, f"/stream?type=Account&id={ACCOUNT}&axis=occurred&at=2026-05-06T09:30").text)
    assert "balance changed was 10 30" in by_time
    assert visit(shop, f"/stream?type=Account&id={ACCOUNT}&axis=occurred&step=3").text.count("2026-05-06") > 0
    assert "By time" not in visit(shop, "/stream?type=Order&id=order-004").text  # versions are in the order of time there


def test_where_there_is_a_snapshot_it_is_marked(shop: Any) -> None:
    page = visit(shop, f"/stream?type=Account&id={ACCOUNT}").text
    assert page.count(">snapshot<") == 1


def test_what_is_not_there_is_named(shop: Any) -> None:
    for path, status, message in (
        ("/stream?type=Order&id=nobody", 404, "nobody"),
        ("/stream?type=Account&id=nobody", 404, "is no id of Account"),
        ("/stream", 400, "Name an aggregate"),
        ("/events/00000000-0000-0000-0000-000000000000", 404, "There is no event"),
    ):
        answer = visit(shop, path)
        assert (answer.status_code, message in answer.text) == (status, True), path


def test_an_aggregate_of_no_class_leads_to_its_events(shop: Any) -> None:
    assert visit(shop, "/stream?type=Elsewhere&id=1").headers["location"] == "/log?aggregate=Elsewhere&id=1"


def test_a_long_life_is_shown_around_the_version(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        order = Order.place(order_id="long")
        for number in range(99):
            order.note(f"n{number}")
        session.add(order)
        session.commit()
    app = browser_of(Base, engine)
    page = visit(app, "/stream?type=Order&id=long&version=50").text
    assert re.findall(r'<span class="version">(\d+)</span>', page) == [str(each) for each in range(38, 63)]
    assert ("37 earlier events" in page, "38 later events" in page) == (True, True)
    assert "n48" in page


def test_an_event_that_cannot_be_replayed_is_named_beside_those_that_can(engine: Engine) -> None:
    class Own(DeclarativeBase):
        pass

    class Account(AnyAccount, Own):
        __aggregate_type__ = "browser.Account"

    Own.metadata.create_all(engine)
    commit_events(engine, Account, "a", Deposited(amount=1), Deposited(amount=2))
    events = tables_of_base("test", Own).events
    with engine.begin() as connection:
        row = connection.execute(events.select().where(events.c.version == 2)).one()
        unreadable = {"event_id": UUID(int=4), "version": 3, "event_type": "browser.Gone", "position": row.position + 1}
        connection.execute(events.insert().values({**row._mapping, **unreadable}))
    page = shown(visit(browser_of(Own, engine), "/stream?type=browser.Account&id=a").text)
    assert "The next event cannot be replayed." in page
    assert "browser.Gone" in page
    assert "There is no state at version 3" in page
    assert "balance changed was 1 3" in shown(visit(browser_of(Own, engine), "/stream?type=browser.Account&id=a&version=2").text)


class Everything(DomainEvent):
    """An event with values of many kinds."""

    __event_type__ = "browser.Everything"
    at: datetime
    key: UUID
    way: OrderStatus
    kind: Literal["a"] = "a"
    some: tuple[int, ...] = (1,)
    more: dict[str, list[Decimal]] = {}
    share: float = 0.5
    line: Line | None = None


def test_code_makes_the_events_it_was_written_from() -> None:
    events = [
        Everything(at=datetime(2026, 5, 4, tzinfo=UTC), key=ACCOUNT, way=OrderStatus.PAID, more={"a": [Decimal("1.50")]}),
        NoteAdded(text='a "quoted"\n\\ text \u202e'),
        OrderPlaced(customer_id="c", lines=(Line(sku="s", quantity=1, price=Decimal(1)),), total=Decimal("1E+2")),
    ]
    code = scenario_code("Order", "1", events)
    names = {"datetime": dt, "scenario": lambda *_: _Given(), "Order": Order, "UUID": UUID, "Decimal": Decimal, "Line": Line}
    classes = {each.__name__: each for each in (Everything, NoteAdded, OrderPlaced, OrderStatus)}
    assert eval(code, {**names, **classes}) == tuple(events)
    assert max(map(len, code.splitlines())) < 110


class Loose(BaseModel):
    """A part of a payload that takes fields of any name."""

    model_config = ConfigDict(extra="allow")
    kind: str = "a"


class Labelled(DomainEvent):
    """An event with such a part."""

    __event_type__ = "browser.Labelled"
    label: Loose


def test_names_of_stored_fields_are_no_code_in_a_scenario() -> None:
    stored = [Labelled(label=Loose.model_validate({"kind": "b", "x=1), stolen.append(1), dict(y": 2, "plain": 3}))]
    stolen: list[int] = []
    names = {"scenario": lambda *_: _Given(), "Order": Order, "Labelled": Labelled, "Loose": Loose, "stolen": stolen}
    assert eval(scenario_code("Order", "1", stored), names) == tuple(stored)
    assert stolen == []


class _Given:
    def given(self, *events: DomainEvent) -> tuple[DomainEvent, ...]:
        return events
