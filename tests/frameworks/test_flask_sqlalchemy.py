"""Flask-SQLAlchemy: ``db.Model`` as the base, ``db.session`` as the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta, Mapped, MappedAsDataclass, mapped_column

from sa_eventsource import AggregateRoot, ConcurrencyError, DeclarationError, DomainEvent, EventRecord, applies

pytest.importorskip("flask_sqlalchemy")

from flask import Flask, abort, request
from flask_sqlalchemy import SQLAlchemy

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


class TicketOpened(DomainEvent):
    """Somebody asked for help."""

    __event_type__ = "flask.TicketOpened"

    subject: str


class TicketClosed(DomainEvent):
    """They were helped."""

    __event_type__ = "flask.TicketClosed"


class _Plain(DeclarativeBase):
    pass


class _NoMeta(DeclarativeBaseNoMeta):
    pass


class _Dataclasses(MappedAsDataclass, DeclarativeBase):
    pass


class _DataclassesNoMeta(MappedAsDataclass, DeclarativeBaseNoMeta):
    pass


BASES: dict[str, Any] = {
    "legacy": None,
    "declarative": _Plain,
    "no_meta": _NoMeta,
    "dataclasses": _Dataclasses,
    "dataclasses_no_meta": _DataclassesNoMeta,
}


class Helpdesk:
    """A small application, built again for each kind of base."""

    def __init__(self, base: Any, engine: Engine) -> None:
        """Declare the models and the views."""
        # A model class of one's own may be used once only, so each application gets a subclass of its bases.
        try:
            db: Any = SQLAlchemy(model_class=type(base.__name__, base.__bases__, {})) if base is not None else SQLAlchemy()
        except InvalidRequestError as error:
            # Flask-SQLAlchemy 3.1 copies the body of a dataclass base, which SQLAlchemy 2.1 takes for a dataclass made by hand.
            pytest.skip(f"Flask-SQLAlchemy cannot use this base with this SQLAlchemy: {error}")

        class Ticket(AggregateRoot, db.Model):  # type: ignore[misc]
            subject: str = ""
            is_open: bool = True

            @applies(TicketOpened)
            def _opened(self, event: TicketOpened) -> None:
                self.subject = event.subject

            @applies(TicketClosed)
            def _closed(self, _: TicketClosed) -> None:
                self.is_open = False

        class Visit(db.Model):  # type: ignore[misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            ticket_id: Mapped[str]

        app = Flask("helpdesk")
        app.config["SQLALCHEMY_DATABASE_URI"] = engine.url
        app.config["TESTING"] = True
        db.init_app(app)

        @app.post("/tickets")
        def open_ticket() -> Any:
            ticket = Ticket()
            ticket.apply_event(TicketOpened(subject=request.json["subject"]))
            db.session.add(ticket)
            db.session.add(Visit(id=request.json["visit"], ticket_id=ticket.id))
            db.session.commit()
            return {"id": ticket.id, "version": ticket.version}, 201

        @app.get("/tickets/<ticket_id>")
        def show_ticket(ticket_id: str) -> Any:
            ticket = db.get_or_404(Ticket, ticket_id)
            return {"subject": ticket.subject, "open": ticket.is_open, "version": ticket.version}

        @app.post("/tickets/<ticket_id>/close")
        def close_ticket(ticket_id: str) -> Any:
            ticket = db.get_or_404(Ticket, ticket_id)
            if request.json["version"] != ticket.version:
                abort(409)
            ticket.apply_event(TicketClosed())
            db.session.commit()
            return {"open": ticket.is_open, "version": ticket.version}

        self.app, self.db, self.ticket, self.visit = app, db, Ticket, Visit


@pytest.fixture(params=BASES)
def helpdesk(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Helpdesk]:
    """The application with its tables, once for each kind of base that Flask-SQLAlchemy takes."""
    desk = Helpdesk(BASES[request.param], engine)
    with desk.app.app_context():
        desk.db.create_all()
        yield desk
        desk.db.session.remove()
        desk.db.engine.dispose()


def test_requests_write_and_read(helpdesk: Helpdesk) -> None:
    """A ticket is opened, shown and closed, each in a request of its own."""
    client = helpdesk.app.test_client()
    opened = client.post("/tickets", json={"subject": "no network", "visit": 1})
    assert opened.status_code == 201
    ticket_id = opened.get_json()["id"]
    assert client.get(f"/tickets/{ticket_id}").get_json() == {"subject": "no network", "open": True, "version": 1}
    assert client.post(f"/tickets/{ticket_id}/close", json={"version": 1}).get_json() == {"open": False, "version": 2}
    assert client.post(f"/tickets/{ticket_id}/close", json={"version": 1}).status_code == 409
    assert client.get("/tickets/nobodys").status_code == 404


def test_the_scoped_session_commits_and_rolls_back_both(helpdesk: Helpdesk) -> None:
    """``db.session`` keeps rows and events together."""
    session = helpdesk.db.session
    ticket = helpdesk.ticket()
    ticket.apply_event(TicketOpened(subject="no network"))
    session.add_all([ticket, helpdesk.visit(id=1, ticket_id=ticket.id)])
    session.commit()
    refused = helpdesk.ticket()
    refused.apply_event(TicketOpened(subject="the same again"))
    session.expunge_all()
    session.add_all([refused, helpdesk.visit(id=1, ticket_id=refused.id)])
    with pytest.raises(IntegrityError):
        session.commit()
    session.rollback()
    assert session.scalar(select(func.count()).select_from(EventRecord)) == 1
    assert session.scalar(select(func.count()).select_from(helpdesk.visit)) == 1


def test_queries_and_pages(helpdesk: Helpdesk) -> None:
    """``db.paginate`` and, on the legacy base, ``Model.query`` find aggregates."""
    session = helpdesk.db.session
    for number in range(5):
        ticket = helpdesk.ticket(id=f"t-{number}")
        ticket.apply_event(TicketOpened(subject=f"question {number}"))
        session.add(ticket)
    session.commit()
    page = helpdesk.db.paginate(select(helpdesk.ticket).order_by(helpdesk.ticket.id), per_page=2, page=2)
    assert (page.total, [each.subject for each in page.items]) == (5, ["question 2", "question 3"])


def test_a_conflict_is_found(helpdesk: Helpdesk) -> None:
    """A request that was overtaken gets a ``ConcurrencyError``."""
    session = helpdesk.db.session
    ticket = helpdesk.ticket(id="t-1")
    ticket.apply_event(TicketOpened(subject="no network"))
    session.add(ticket)
    session.commit()
    _ = ticket.subject
    session.expunge(ticket)
    session.rollback()
    session.get(helpdesk.ticket, "t-1").apply_event(TicketClosed())
    session.commit()
    session.remove()
    ticket.apply_event(TicketClosed())
    session.add(ticket)
    with pytest.raises(ConcurrencyError):
        session.commit()
    session.rollback()


def test_a_bind_key_is_refused_whose_database_the_session_would_not_find() -> None:
    app = Flask("two databases")
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", SQLALCHEMY_BINDS={"archive": "sqlite://"})
    db: Any = SQLAlchemy(app, model_class=_Plain)
    with pytest.raises(DeclarationError, match=r"__bind_key__ 'archive'.*would go to the default database"):
        type("Archived", (AggregateRoot, db.Model), {"__bind_key__": "archive", "__ignored_events__": (TicketOpened,)})
