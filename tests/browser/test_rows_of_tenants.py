"""Rows of read models where tenants share the tables: nobody sees another tenant's, neither as they are nor as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import AggregateRoot, DomainEvent, EventSourceOptions, ReadModel, Roles, create_roles, map_from_event
from sa_eventsource.browser import Access, Browser
from tests.browser.visiting import visit, words_of

ROLES = Roles(app="rows_app", worker="rows_worker", reader="rows_reader", privacy_officer="rows_privacy")
NAMES = {"alpha": "ann", "beta": "bob"}
MODELS = ("tenant_guests", "tenant_own_guests")


class Base(DeclarativeBase):
    """A base whose tables tenants share."""

    __eventsource__ = EventSourceOptions(tenants=True, roles=ROLES)


class GuestCame(DomainEvent):
    """A guest came."""

    __event_type__ = "rows.GuestCame"
    name: str


class Room(AggregateRoot[str], Base):
    """A room."""

    __aggregate_type__ = "rows.Room"
    __ignored_events__ = (GuestCame,)


class Guests(ReadModel, Base):
    """Who is in a room, in the shared table."""

    __projection_name__ = "tenant_guests"
    __consistency__ = "strong"
    room: Mapped[str] = map_from_event(GuestCame, key=True, source="aggregate_id")
    name: Mapped[str] = map_from_event(GuestCame)


class OwnGuests(ReadModel, Base):
    """The same in a table of its own."""

    __tablename__ = "tenant_own_guests"
    __projection_name__ = "tenant_own_guests"
    __consistency__ = "strong"
    room: Mapped[str] = map_from_event(GuestCame, key=True, source="aggregate_id")
    name: Mapped[str] = map_from_event(GuestCame)


@pytest.fixture
def rooms(postgres_engine: Engine) -> Iterator[Engine]:
    """An engine of the reader's role, over rooms of two tenants: one of the same name, and one that only one of them has."""
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        create_roles(connection, Base)
    writer = create_engine(postgres_engine.url, connect_args={"options": "-c role=rows_app"})
    for tenant, name in NAMES.items():
        for room_id in ("1", f"of {tenant}"):
            with Session(writer, info={"sa_eventsource.tenant": tenant}) as session:
                room = Room(id=room_id)
                room.apply_event(GuestCame(name=name))
                session.add(room)
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
@pytest.mark.parametrize("tenant", NAMES)
def test_a_tenants_rows_are_shown_and_no_others(rooms: Engine, model: str, tenant: str) -> None:
    app = browser_for(rooms, list(NAMES))
    (other,) = NAMES.keys() - {tenant}
    for path in (
        f"/models/one?name={model}",
        f"/models/one?name={model}&sort=name&order=descending",
        f"/models/one?name={model}&where=name~{NAMES[tenant][0]}",
        f"/models/row?name={model}&key=1",
        f"/models/row?name={model}&key=1&position=100",
        f"/models/row?name={model}&key=1&at=2100-01-01",
    ):
        page = visit(app, f"{path}&tenant={tenant}")
        words = words_of(page)
        assert (NAMES[tenant] in words, NAMES[other] in words, f"of {other}" in words) == (True, False, False), (path, words)
        assert page.text.count(f"tenant={tenant}") > 2
        assert f"tenant={other}" not in page.text
    for path in ("", "&position=100"):
        words = words_of(visit(app, f"/models/row?name={model}&key=of {other}{path}&tenant={tenant}"))
        assert NAMES[other] not in words
        assert "No event belongs to it" in words
    assert "No row is like that" in words_of(visit(app, f"/models/one?name={model}&where=name={NAMES[other]}&tenant={tenant}"))


@pytest.mark.parametrize("model", MODELS)
def test_rows_of_a_tenant_that_is_not_allowed_are_refused(rooms: Engine, model: str) -> None:
    for tenants, asked in ((["alpha"], "&tenant=beta"), ([], ""), ([], "&tenant=beta")):
        app = browser_for(rooms, tenants)
        for path in (f"/models/one?name={model}", f"/models/row?name={model}&key=1", "/models"):
            answer = visit(app, f"{path}{'?' if path == '/models' else ''}{asked}")
            assert (answer.status_code, "bob" in answer.text) == (403, False), path


@pytest.mark.parametrize("table", ["projections", "tenant_own_guests"])
def test_the_database_shows_no_rows_where_no_tenant_is_set(rooms: Engine, table: str) -> None:
    with rooms.connect() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
