"""Flask-SQLAlchemy: ``db.Model`` as the base, ``db.session`` as the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta, Mapped, MappedAsDataclass, mapped_column

from sa_eventsource import AggregateRoot, ConcurrencyError, DeclarationError, EventRecord
from tests.bank import AnyAccount, Closed, Opened

pytest.importorskip("flask_sqlalchemy")

from flask import Flask, abort, request
from flask_sqlalchemy import SQLAlchemy

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


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


class Bank:
    """A small application, built again for each kind of base."""

    def __init__(self, base: Any, engine: Engine) -> None:
        """Declare the models and the views."""
        # A model class of one's own may be used once only, so each application gets a subclass of its bases.
        try:
            db: Any = SQLAlchemy(model_class=type(base.__name__, base.__bases__, {})) if base is not None else SQLAlchemy()
        except InvalidRequestError as error:
            # Flask-SQLAlchemy 3.1 copies the body of a dataclass base, which SQLAlchemy 2.1 takes for a dataclass made by hand.
            pytest.skip(f"Flask-SQLAlchemy cannot use this base with this SQLAlchemy: {error}")

        class Account(AnyAccount, db.Model):  # type: ignore[misc]
            pass

        class Visit(db.Model):  # type: ignore[misc]
            id: Mapped[int] = mapped_column(primary_key=True)
            account_id: Mapped[str]

        app = Flask("bank")
        app.config["SQLALCHEMY_DATABASE_URI"] = engine.url
        app.config["TESTING"] = True
        db.init_app(app)

        @app.post("/accounts")
        def open_account() -> Any:
            account = Account()
            account.apply_event(Opened(owner=request.json["owner"]))
            db.session.add(account)
            db.session.add(Visit(id=request.json["visit"], account_id=account.id))
            db.session.commit()
            return {"id": account.id, "version": account.version}, 201

        @app.get("/accounts/<account_id>")
        def show_account(account_id: str) -> Any:
            account = db.get_or_404(Account, account_id)
            return {"owner": account.owner, "open": account.is_open, "version": account.version}

        @app.post("/accounts/<account_id>/close")
        def close_account(account_id: str) -> Any:
            account = db.get_or_404(Account, account_id)
            if request.json["version"] != account.version:
                abort(409)
            account.apply_event(Closed())
            db.session.commit()
            return {"open": account.is_open, "version": account.version}

        self.app, self.db, self.account, self.visit = app, db, Account, Visit


@pytest.fixture(params=BASES)
def bank(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Bank]:
    """The application with its tables, once for each kind of base that Flask-SQLAlchemy takes."""
    bank = Bank(BASES[request.param], engine)
    with bank.app.app_context():
        bank.db.create_all()
        yield bank
        bank.db.session.remove()
        bank.db.engine.dispose()


def test_requests_write_and_read(bank: Bank) -> None:
    """An account is opened, shown and closed, each in a request of its own."""
    client = bank.app.test_client()
    opened = client.post("/accounts", json={"owner": "Ann", "visit": 1})
    assert opened.status_code == 201
    account_id = opened.get_json()["id"]
    assert client.get(f"/accounts/{account_id}").get_json() == {"owner": "Ann", "open": True, "version": 1}
    assert client.post(f"/accounts/{account_id}/close", json={"version": 1}).get_json() == {"open": False, "version": 2}
    assert client.post(f"/accounts/{account_id}/close", json={"version": 1}).status_code == 409
    assert client.get("/accounts/nobodys").status_code == 404


def test_the_scoped_session_commits_and_rolls_back_both(bank: Bank) -> None:
    """``db.session`` keeps rows and events together."""
    session = bank.db.session
    account = bank.account()
    account.apply_event(Opened(owner="Ann"))
    session.add_all([account, bank.visit(id=1, account_id=account.id)])
    session.commit()
    refused = bank.account()
    refused.apply_event(Opened(owner="Bob"))
    session.expunge_all()
    session.add_all([refused, bank.visit(id=1, account_id=refused.id)])
    with pytest.raises(IntegrityError):
        session.commit()
    session.rollback()
    assert session.scalar(select(func.count()).select_from(EventRecord)) == 1
    assert session.scalar(select(func.count()).select_from(bank.visit)) == 1


def test_queries_and_pages(bank: Bank) -> None:
    """``db.paginate`` and, on the legacy base, ``Model.query`` find aggregates."""
    session = bank.db.session
    for number in range(5):
        account = bank.account(id=f"a-{number}")
        account.apply_event(Opened(owner=f"owner {number}"))
        session.add(account)
    session.commit()
    page = bank.db.paginate(select(bank.account).order_by(bank.account.id), per_page=2, page=2)
    assert (page.total, [each.owner for each in page.items]) == (5, ["owner 2", "owner 3"])


def test_a_conflict_is_found(bank: Bank) -> None:
    """A request that was overtaken gets a ``ConcurrencyError``."""
    session = bank.db.session
    account = bank.account(id="a-1")
    account.apply_event(Opened(owner="Ann"))
    session.add(account)
    session.commit()
    _ = account.owner
    session.expunge(account)
    session.rollback()
    session.get(bank.account, "a-1").apply_event(Closed())
    session.commit()
    session.remove()
    account.apply_event(Closed())
    session.add(account)
    with pytest.raises(ConcurrencyError):
        session.commit()
    session.rollback()


def test_a_bind_key_is_refused_whose_database_the_session_would_not_find() -> None:
    app = Flask("two databases")
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", SQLALCHEMY_BINDS={"archive": "sqlite://"})
    db: Any = SQLAlchemy(app, model_class=_Plain)
    with pytest.raises(DeclarationError, match=r"__bind_key__ 'archive'.*would go to the default database"):
        type("Archived", (AggregateRoot, db.Model), {"__bind_key__": "archive", "__ignored_events__": (Opened,)})
