"""The application: who may see what, where its pages are, and what comes in place of a page that cannot be shown."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from sa_eventsource import event_context
from sa_eventsource.browser import Access, Browser, everyone
from sa_eventsource.browser.page import Address, Page, Visit
from sa_eventsource.browser.pages import PAGES
from sa_eventsource.browser.shown_followers import statuses_of
from tests.browser.visiting import browser_of, visit
from tests.orders import Base, Order


@pytest.fixture
def engine(postgres_engine: Engine) -> Engine:
    """An engine on a database with one paid order."""
    Base.metadata.create_all(postgres_engine)
    with Session(postgres_engine) as session, event_context(user="ann"):
        order = Order.place("c-1", order_id="order/1?")
        order.pay("p-1")
        session.add(order)
        session.commit()
    return postgres_engine


def test_the_first_page_leads_to_the_log(engine: Engine) -> None:
    answer = visit(browser_of(Base, engine), "/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/log")


def test_pages_run_nothing_but_what_the_wheel_brings(engine: Engine) -> None:
    for path in ("/log", "/nowhere", "/static/browser.css"):
        policy = visit(browser_of(Base, engine), path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    page = visit(browser_of(Base, engine), "/log").text
    assert "style=" not in page
    assert re.findall(r"<script(?![^>]*src=)", page) == []
    assert set(re.findall(r'(?:src|href)="([a-z]+:|//)', page)) == set()


def test_addresses_hold_where_it_is_mounted_and_behind_a_proxy(engine: Engine) -> None:
    app = Starlette(routes=[Mount("/tools/events", browser_of(Base, engine))])
    page = visit(app, "/shop/tools/events/log", root_path="/shop").text
    addresses = re.findall(r'(?:src|href|action)="([^"]+)"', page)
    assert len(addresses) > 10
    assert [each for each in addresses if not each.startswith(("/shop/tools/events/", "#"))] == []


def test_an_id_may_hold_what_an_address_does_not(engine: Engine) -> None:
    app = browser_of(Base, engine)
    link = next(each for each in re.findall(r'href="([^"]+)"', visit(app, "/log").text) if "order%2F1%3F" in each)
    assert visit(app, html.unescape(link)).status_code == 200


@pytest.mark.parametrize("is_async", [False, True])
def test_whom_authorize_refuses_sees_nothing(engine: Engine, is_async: bool) -> None:
    def refuse(request: Request) -> Access | None:
        assert request.url.path == "/log"
        return None

    async def refuse_later(request: Request) -> Access | None:
        return refuse(request)

    answer = visit(browser_of(Base, engine, authorize=refuse_later if is_async else refuse), "/log")
    assert answer.status_code == 403
    assert "OrderPaid" not in answer.text


def test_authorize_may_send_somebody_to_sign_in(engine: Engine) -> None:
    def sign_in(request: Request) -> Access:
        raise HTTPException(303, headers={"Location": "/login"})

    answer = visit(browser_of(Base, engine, authorize=sign_in), "/log")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_what_authorize_gives_is_not_guessed_at(engine: Engine) -> None:
    wrong: Any = lambda _request: True  # noqa: E731
    answer = visit(browser_of(Base, engine, authorize=wrong), "/log")
    assert answer.status_code == 500
    assert "OrderPaid" not in answer.text


def test_what_an_unexpected_error_says_is_not_shown(engine: Engine) -> None:
    def fail(request: Request) -> Access:
        raise ValueError("the password is secret")

    answer = visit(browser_of(Base, engine, authorize=fail), "/log")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "content-security-policy" in answer.headers


def test_pages_are_read_in_transactions_that_cannot_write(engine: Engine) -> None:
    source = browser_of(Base, engine).source
    with source.reading(Access(), None) as session:
        connection = session.connection()
        assert connection.scalar(text("SHOW transaction_read_only")) == "on"
        assert connection.scalar(text("SHOW statement_timeout")) == "10s"
        assert connection.scalar(text("SHOW jit")) == "off"
        assert connection.get_execution_options()["personal_data"] == "masked"
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW transaction_read_only")) == "off"
        assert connection.scalar(text("SHOW statement_timeout")) == "0"


def test_what_begins_its_own_transactions_cannot_write_either(engine: Engine) -> None:
    with browser_of(Base, engine).source.session_in_time(None) as session:
        for _ in range(2):
            assert session.scalar(text("SHOW transaction_read_only")) == "on"
            assert session.scalar(text("SHOW statement_timeout")) == "10s"
            session.rollback()
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW transaction_read_only")) == "off"


def test_nobody_reads_with_a_page_whose_transaction_is_over(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def statuses(visit: Visit) -> Response:
        assert visit.connection.scalar(text("SHOW transaction_read_only")) == "on"
        statuses_of(visit, [])
        with pytest.raises(RuntimeError, match="transaction is over"):
            visit.connection.scalar(text("SELECT 1"))
        return Response("refused")

    page = Page(addresses=(Address("statuses", "/statuses", statuses),))
    monkeypatch.setattr("sa_eventsource.browser.application.PAGES", (*PAGES, page))
    assert visit(browser_of(Base, engine), "/statuses").text == "refused"


def test_it_takes_what_makes_sessions(engine: Engine) -> None:
    assert "shop.OrderPaid" in visit(browser_of(Base, sessionmaker(engine)), "/log").text


def test_missing_tables_are_named(postgres_engine: Engine) -> None:
    answer = visit(browser_of(Base, postgres_engine), "/log")
    assert answer.status_code == 503
    assert "Create the tables first" in answer.text


def test_where_all_connections_are_in_use_the_reader_is_told(engine: Engine) -> None:
    small = create_engine(engine.url, pool_size=1, max_overflow=0, pool_timeout=0.01)
    app = browser_of(Base, small)
    visit(app, "/log")
    with small.connect():
        pages = [visit(app, "/log"), visit(app, "/schema"), visit(app, "/stream?type=Order&id=order/1?")]
    for page in pages:
        assert (page.status_code, "All connections to the database are in use" in page.text) == (503, True)
    assert visit(app, "/log").status_code == 200
    small.dispose()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"database": "postgresql://host/name"}, "pass create_engine"),
        ({"database": create_async_engine("sqlite+aiosqlite://")}, "synchronous engine"),
        ({"database": create_async_engine("sqlite+aiosqlite://").sync_engine}, "synchronous engine"),
        ({"database": sessionmaker(create_async_engine("sqlite+aiosqlite://").sync_engine)}, "synchronous engine"),
        ({"database": sessionmaker(binds={Order: create_async_engine("sqlite+aiosqlite://").sync_engine})}, "synchronous engine"),
        ({"database": scoped_session(sessionmaker(create_engine("sqlite://")))}, "pass the engine, or its session_factory"),
        ({"authorize": None}, "a function of the request"),
        ({"base": object()}, "declarative base"),
    ],
)
def test_what_it_cannot_work_with_is_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"base": Base, "database": create_engine("sqlite://"), "authorize": everyone, **arguments}
    with pytest.raises(TypeError, match=message):
        Browser(given["base"], given["database"], authorize=given["authorize"])


def test_one_tenant_for_a_list_of_them_is_refused() -> None:
    with pytest.raises(TypeError, match=r"such as \['alpha'\]"):
        Access(tenants="alpha")
