"""Read models within sqladmin and starlette-admin: read only, masked, a tenant's, and linked to the event browser."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, sessionmaker
from starlette.applications import Starlette

from sa_eventsource import EventSourceOptions, ReadModel, Roles, create_roles, map_from_event
from sa_eventsource.browser import Browser, everyone
from sa_eventsource.read_models import count
from tests.browser.test_who_sees_what import Hidden, PatientNames
from tests.browser.visiting import visit
from tests.committing import commit_events
from tests.shop import AnyTill, Sold

HOSTILE = "<script>alert(1)</script>\u202egpj"
ROLES = Roles(app="admin_app", worker="admin_worker", reader="admin_reader", privacy_officer="admin_privacy")


class Base(DeclarativeBase):
    """A base whose read models are administered."""


class Till(AnyTill, Base):
    """Where goods are sold."""

    __aggregate_type__ = "administered.Till"


class LastSold:
    """A row for each till."""

    id: Mapped[str] = map_from_event(Sold, key=True, source="aggregate_id")
    goods: Mapped[str] = map_from_event(Sold, source="what")


class Tills(LastSold, ReadModel, Base):
    """The tills of one shop."""

    __projection_name__ = "administered_tills"
    __consistency__ = "strong"


class Goods(ReadModel, Base):
    """A row for each kind of goods, in a table of its own."""

    __tablename__ = "administered_goods"
    __projection_name__ = "administered_goods"
    __consistency__ = "strong"
    goods: Mapped[str] = map_from_event(Sold, key=True, source="what")
    number: Mapped[int] = map_from_event(Sold, reduce=count())


Administered = Callable[..., Starlette]


def with_sqladmin(base: Any, sessions: Any, **options: Any) -> Starlette:
    """An application that has sqladmin."""
    sqladmin = pytest.importorskip("sqladmin", reason="install sqladmin>=0.32")
    from sa_eventsource.browser.sqladmin_views import read_model_views

    app = Starlette()
    admin = sqladmin.Admin(app, session_maker=sessions)
    for view in read_model_views(base, browser="/events", **options):
        admin.add_view(view)
    return app


def with_starlette_admin(base: Any, sessions: Any, **options: Any) -> Starlette:
    """An application that has starlette-admin."""
    sqla = pytest.importorskip("starlette_admin.contrib.sqla", reason="install starlette-admin>=1.0")
    from sa_eventsource.browser.starlette_admin_views import read_model_views

    app = Starlette()
    admin = sqla.Admin(sessions, secret_key="not a secret")
    for view in read_model_views(base, sessions, browser="/events", **options):
        admin.add_view(view)
    admin.mount_to(app)
    return app


@pytest.fixture(params=[with_sqladmin, with_starlette_admin])
def administered(request: pytest.FixtureRequest) -> Administered:
    """Each of them."""
    made: Administered = request.param
    return made


@pytest.fixture
def tills(engine: Engine) -> Engine:
    """Three tills, one of them with a hostile id."""
    Base.metadata.create_all(engine)
    for till_id, goods in (("t-1", "tea"), ("t-2", "tea"), (HOSTILE, "rum")):
        commit_events(engine, Till, till_id, Sold(what=goods))
    return engine


def page_of(app: Any, path: str) -> str:
    """Get a page, with the redirects that lead to it."""
    answer = visit(app, path, follow_redirects=True)
    assert answer.status_code == 200, (path, answer.text)
    return answer.text


def test_rows_are_listed_with_links_to_their_aggregates_and_models(tills: Engine, administered: Administered) -> None:
    app = administered(Base, sessionmaker(tills))
    app.mount("/events", Browser(Base, tills, authorize=everyone))
    page = page_of(app, "/admin/administered_tills/list")
    links = {html.unescape(each) for each in re.findall(r'(/events/stream\?[^"\s]+)"', page)}
    assert links == {
        f"/events/stream?type=administered.Till&id={each}"
        for each in ("t-1", "t-2", "%3Cscript%3Ealert%281%29%3C%2Fscript%3E%E2%80%AEgpj")
    }
    for each in links:
        assert "shop.Sold" in visit(app, each).text
    goods = page_of(app, "/admin/administered_goods/list")
    (link,) = set(re.findall(r'(/events/models/one\?[^"\s]+)"', goods))
    assert "administered_goods" in visit(app, link).text
    assert "<script>alert" not in page + goods


def test_a_row_has_a_page_of_its_own(tills: Engine, administered: Administered) -> None:
    app = administered(Base, sessionmaker(tills))
    found = page_of(app, "/admin/administered_tills/list")
    (address,) = {html.unescape(each) for each in re.findall(r'(/admin/administered_tills/detail[^"]*t-2[^"]*)"', found)}
    page = page_of(app, address)
    assert ("tea" in page, "t-1" in page) == (True, False)


def test_starlette_admin_looks_for_rows_that_contain_a_text(tills: Engine) -> None:
    app = with_starlette_admin(Base, sessionmaker(tills))
    page = page_of(app, "/admin/administered_tills/list?q=ru")
    assert ("rum" in page, ">tea<" in page) == (True, False)


def tills_on(page: str) -> list[str]:
    """The ids of the tills that a page lists, in order, each once."""
    ids = re.findall(r"/events/stream\?type=administered.Till&(?:amp;)*id=([^\"&]+)\"", html.unescape(page))
    return list(dict.fromkeys(ids))


def test_rows_are_sorted_by_any_field_and_no_other_name(tills: Engine, administered: Administered) -> None:
    app = administered(Base, sessionmaker(tills))
    form = "sortBy={}&sort={}" if administered is with_sqladmin else "sort={}__{}"
    found = {
        (name, way): tills_on(page_of(app, f"/admin/administered_tills/list?{form.format(name, way)}"))
        for name in ("id", "goods", "version")
        for way in ("asc", "desc")
    }
    assert {len(each) for each in found.values()} == {3}
    for name in ("metadata", "no_field", "__class__"):
        assert visit(app, f"/admin/administered_tills/list?{form.format(name, 'asc')}").status_code in (200, 400)
    assert found["id", "asc"] == found["id", "desc"][::-1] != found["id", "desc"]
    assert (found["goods", "asc"][0], found["goods", "desc"][-1]) == (quote(HOSTILE, safe=""),) * 2


@pytest.mark.parametrize("asked", ["page=99999999999999999999", "q=%00", f"page={'9' * 4_301}"])
def test_what_no_row_can_have_finds_none_or_all_in_starlette_admin(tills: Engine, asked: str) -> None:
    page_of(with_starlette_admin(Base, sessionmaker(tills)), f"/admin/administered_tills/list?{asked}")


def test_the_log_is_one_link_away(tills: Engine, administered: Administered) -> None:
    app = administered(Base, sessionmaker(tills))
    menu = page_of(app, "/admin/administered_goods/list")
    if "/events/log" not in menu:  # sqladmin has no links in its menu: a view leads there
        (view,) = set(re.findall(r'href="([^"]*/event-log)"', menu))
        answer = visit(app, view.removeprefix("http://127.0.0.1"))
        assert (answer.status_code, answer.headers["location"]) == (303, "/events/log")


def test_nothing_can_be_changed(tills: Engine, administered: Administered) -> None:
    app = administered(Base, sessionmaker(tills))
    for path in ("create", "edit/t-1", "import"):
        for method in ("GET", "POST"):
            answer = visit(app, f"/admin/administered_tills/{path}", method=method, data={"id": "t-9", "goods": "x"})
            assert answer.status_code in (400, 403, 404, 405), (path, method, answer.status_code)
    for method in ("DELETE", "POST"):
        assert visit(app, "/admin/administered_tills/delete?pks=t-1", method=method).status_code in (400, 403, 404, 405)
    with Session(tills) as session:
        assert session.query(Tills).count() == 3


def test_models_with_personal_data_in_clear_are_left_out(engine: Engine, administered: Administered) -> None:
    Hidden.metadata.create_all(engine)
    name = PatientNames.__projection_name__
    assert visit(administered(Hidden, sessionmaker(engine)), f"/admin/{name}/list").status_code == 404
    assert name in page_of(administered(Hidden, sessionmaker(engine), personal_data=True), f"/admin/{name}/list")


class Shared(DeclarativeBase):
    """A base whose tables tenants share."""

    __eventsource__ = EventSourceOptions(tenants=True, roles=ROLES)


class SharedTill(AnyTill, Shared):
    """Where a tenant's goods are sold."""

    __aggregate_type__ = "administered.SharedTill"


class SharedTills(LastSold, ReadModel, Shared):
    """The tills of all tenants."""

    __projection_name__ = "administered_shared_tills"
    __consistency__ = "strong"


@pytest.fixture
def tills_of_tenants(postgres_engine: Engine) -> Iterator[Engine]:
    """An engine of the reader's role, over the tills of two tenants."""
    Shared.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        create_roles(connection, Shared)
    writer = create_engine(postgres_engine.url, connect_args={"options": "-c role=admin_app"})
    for tenant in ("alpha", "beta"):
        with Session(writer, info={"sa_eventsource.tenant": tenant}) as session:
            till = SharedTill(id=f"till of {tenant}")
            till.sell("tea")
            session.add(till)
            session.commit()
    writer.dispose()
    engine = create_engine(postgres_engine.url, connect_args={"options": "-c role=admin_reader"})
    yield engine
    engine.dispose()
    with postgres_engine.begin() as connection:
        for role in ROLES.names():
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))


def test_a_tenants_sessions_show_that_tenants_rows(tills_of_tenants: Engine, administered: Administered) -> None:
    app = administered(Shared, sessionmaker(tills_of_tenants, info={"sa_eventsource.tenant": "beta"}))
    page = page_of(app, "/admin/administered_shared_tills/list")
    assert ("till of beta" in page, "till of alpha" in page, "tenant_id" in page) == (True, False, False)
