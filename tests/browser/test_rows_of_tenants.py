"""Rows of read models where tenants share the tables: nobody sees another tenant's, neither as they are nor as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import EventSourceOptions, ReadModel, Roles, create_roles, map_from_event
from sa_eventsource.browser import Access, Browser
from tests.browser.visiting import visit, words_of
from tests.shop import AnyTill, Sold

ROLES = Roles(app="rows_app", worker="rows_worker", reader="rows_reader", privacy_officer="rows_privacy")
GOODS = {"alpha": "ink", "beta": "pen"}
MODELS = ("tenant_sales", "tenant_own_sales")


class Base(DeclarativeBase):
    """A base whose tables tenants share."""

    __eventsource__ = EventSourceOptions(tenants=True, roles=ROLES)


class Till(AnyTill, Base):
    """A till."""

    __aggregate_type__ = "rows.Till"


class Sales(ReadModel, Base):
    """What a till sold last, in the shared table."""

    __projection_name__ = "tenant_sales"
    __consistency__ = "strong"
    till: Mapped[str] = map_from_event(Sold, key=True, source="aggregate_id")
    what: Mapped[str] = map_from_event(Sold)


class OwnSales(ReadModel, Base):
    """The same in a table of its own."""

    __tablename__ = "tenant_own_sales"
    __projection_name__ = "tenant_own_sales"
    __consistency__ = "strong"
    till: Mapped[str] = map_from_event(Sold, key=True, source="aggregate_id")
    what: Mapped[str] = map_from_event(Sold)


@pytest.fixture
def tills(postgres_engine: Engine) -> Iterator[Engine]:
    """An engine of the reader's role, over tills of two tenants: one of the same name, and one that only one of them has."""
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
    writer = create_engine(postgres_engine.url, connect_args={"options": "-c role=rows_app"})
    for tenant, what in GOODS.items():
        for till_id in ("1", f"of {tenant}"):
            with Session(writer, info={"sa_eventsource.tenant": tenant}) as session:
                till = Till(id=till_id)
                till.sell(what)
                session.add(till)
                session.commit()
    writer.dispose()
    engine = create_engine(postgres_engine.url, connect_args={"options": "-c role=rows_reader"})
    yield engine
    engine.dispose()
    with postgres_engine.begin() as connection:
        for role in ROLES.names():
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))


def browser_for(engine: Engine, tenants: Sequence[str]) -> Browser:
    """Make a browser for somebody who may see some tenants."""
    return Browser(Base, engine, authorize=lambda _request: Access(tenants=tenants))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tenant", GOODS)
def test_a_tenants_rows_are_shown_and_no_others(tills: Engine, model: str, tenant: str) -> None:
    app = browser_for(tills, list(GOODS))
    (other,) = GOODS.keys() - {tenant}
    for path in (
        f"/models/one?name={model}",
        f"/models/one?name={model}&sort=what&order=descending",
        f"/models/one?name={model}&where=what~{GOODS[tenant][0]}",
        f"/models/row?name={model}&key=1",
        f"/models/row?name={model}&key=1&position=100",
        f"/models/row?name={model}&key=1&at=2100-01-01",
    ):
        page = visit(app, f"{path}&tenant={tenant}")
        words = words_of(page)
        assert (GOODS[tenant] in words, GOODS[other] in words, f"of {other}" in words) == (True, False, False), (path, words)
        assert page.text.count(f"tenant={tenant}") > 2
        assert f"tenant={other}" not in page.text
    for path in ("", "&position=100"):
        words = words_of(visit(app, f"/models/row?name={model}&key=of {other}{path}&tenant={tenant}"))
        assert GOODS[other] not in words
        assert "No event belongs to it" in words
    assert "No row is like that" in words_of(visit(app, f"/models/one?name={model}&where=what={GOODS[other]}&tenant={tenant}"))


@pytest.mark.parametrize("model", MODELS)
def test_rows_of_a_tenant_that_is_not_allowed_are_refused(tills: Engine, model: str) -> None:
    for tenants, asked in ((["alpha"], "&tenant=beta"), ([], ""), ([], "&tenant=beta")):
        app = browser_for(tills, tenants)
        for path in (f"/models/one?name={model}", f"/models/row?name={model}&key=1", "/models"):
            answer = visit(app, f"{path}{'?' if path == '/models' else ''}{asked}")
            assert (answer.status_code, "pen" in answer.text) == (403, False), path


@pytest.mark.parametrize("table", ["projections", "tenant_own_sales"])
def test_the_database_shows_no_rows_where_no_tenant_is_set(tills: Engine, table: str) -> None:
    with tills.connect() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
