"""Subscriptions: an application's own functions are called for each event, at least once and every stream in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import DeclarationError, DomainEvent, RecordedEvent
from sa_eventsource.consumers import subscribe
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.workers import Worker
from tests.committing import commit_events
from tests.shop import AnyTill, Sold, TillClosed


class Base(DeclarativeBase):
    """Base of a shop whose mails are sent by a subscription."""


class OtherBase(DeclarativeBase):
    """A log of its own."""


class Audited(DomainEvent):
    """No other test's log knows it, so that a subscription to it without a base follows none of them."""

    __event_type__ = "subscriptions.Audited"


class Moved(DomainEvent):
    """Likewise, and one of the two logs does not know it."""

    __event_type__ = "subscriptions.Moved"


class Till(AnyTill, Base):
    """A till that is audited and moved."""

    __aggregate_type__ = "subscriptions.Till"
    __ignored_events__ = (Audited, Moved)


class OtherTill(AnyTill, OtherBase):
    """On another log, and audited only."""

    __aggregate_type__ = "subscriptions.OtherTill"
    __ignored_events__ = (Audited,)


sent: list[tuple[str, str]] = []
failing: set[str] = set()


@subscribe("mailer", Sold, base=Base)
def send(sold: RecordedEvent[Sold], session: Session) -> None:
    if sold.event.what in failing:
        raise RuntimeError("the mail server refuses it")
    sent.append((sold.aggregate_id, sold.event.what))
    session.execute(text("INSERT INTO mails VALUES (:what)"), {"what": sold.event.what})


@subscribe("audit", Sold, TillClosed, start="now", batch_size=100, on_error="park", base=Base)
def audit(event: RecordedEvent[Sold | TillClosed], session: Session) -> None:
    if isinstance(event.event, Sold) and event.event.what in failing:
        raise RuntimeError("not for the books")
    sent.append(("audit", type(event.event).__name__))


@pytest.fixture
def shop(engine: Engine) -> Iterator[Engine]:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mails (what VARCHAR(255))"))
    sent.clear()
    failing.clear()
    yield engine
    failing.clear()


def sell(engine: Engine, till_id: str, *what: str) -> None:
    commit_events(engine, Till, till_id, *(Sold(what=each) for each in what))


def mails(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.scalars(text("SELECT what FROM mails")))


def run(engine: Engine, *names: str, attempts: int = 2) -> int:
    return Worker(engine, Base, only=names or None, retries=RetryPolicy(attempts=attempts, first_pause=0)).run_once()


def test_the_function_is_called_for_each_event_in_order(shop: Engine) -> None:
    sell(shop, "a", "pen", "ink")
    sell(shop, "b", "cup")
    assert run(shop, "mailer") == 3
    assert sent == [("a", "pen"), ("a", "ink"), ("b", "cup")]
    assert run(shop, "mailer") == 0
    assert mails(shop) == ["cup", "ink", "pen"]


def test_what_it_writes_through_the_session_is_rolled_back_where_it_fails(shop: Engine) -> None:
    sell(shop, "a", "pen", "ink", "cup")
    failing.add("ink")
    run(shop, "mailer")
    assert mails(shop) == ["pen"]
    failing.clear()
    with shop.begin() as connection:
        assert connection.scalar(text("SELECT status FROM projection_positions")) == "stopped"
        connection.execute(text("UPDATE projection_positions SET status = 'running'"))
    run(shop, "mailer")
    assert mails(shop) == ["cup", "ink", "pen"]
    assert sent == [("a", "pen"), ("a", "ink"), ("a", "cup")]


def test_one_that_starts_now_leaves_out_what_is_there(shop: Engine) -> None:
    sell(shop, "a", "pen")
    assert run(shop, "audit") == 0
    sell(shop, "a", "ink")
    commit_events(shop, Till, "a", TillClosed())
    assert run(shop, "audit") == 2
    assert sent == [("audit", "Sold"), ("audit", "TillClosed")]


def test_one_that_parks_goes_on_with_other_streams(shop: Engine) -> None:
    run(shop, "audit")
    failing.add("ink")
    sell(shop, "a", "pen", "ink", "cup")
    sell(shop, "b", "jug")
    run(shop, "audit")
    assert sent == [("audit", "Sold")] * 2, "the first batch is one event, so that pen does not come again"
    with shop.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM parked_events")) == 2


def test_it_follows_the_log_of_its_base_only(shop: Engine) -> None:
    assert {"mailer", "audit"} <= set(Worker(shop, Base).names)
    assert not {"mailer", "audit"} & set(Worker(shop, OtherBase).names)


@subscribe("everywhere", Audited)
def note(event: RecordedEvent[Audited], session: Session) -> None: ...


@subscribe("only moved", Moved)
def note_moved(event: RecordedEvent[Moved], session: Session) -> None: ...


def test_without_a_base_it_follows_each_log_whose_aggregates_know_the_event(shop: Engine) -> None:
    assert "everywhere" in Worker(shop, Base).names
    assert "everywhere" in Worker(shop, OtherBase).names
    assert "only moved" not in Worker(shop, OtherBase).names


def _function(event: RecordedEvent[Any], session: Session) -> None: ...


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("x",), {}, "takes a name and event classes"),
        (("x", "Sold"), {}, "takes a name and event classes"),
        (("", Sold), {}, "1 to 255 characters"),
        (("x#1", Sold), {}, "none of #, @ and NUL"),
        (("x", Sold), {"start": "later"}, 'start must be "beginning", "now", a datetime with a time zone, or a position'),
        (("x", Sold), {"start": -1}, "a position, which is 0 or more, not -1"),
        (("x", Sold), {"start": True}, "not True"),
        (("x", Sold), {"start": datetime(2026, 1, 1)}, "has no time zone"),  # noqa: DTZ001
        (("x", Sold), {"batch_size": 0}, "must be 1 or more"),
        (("x", Sold), {"on_error": "ignore"}, '"stop" or "park"'),
        (("mailer", Sold), {}, r"declared twice: by .*send and by .*_function"),
    ],
)
def test_a_wrong_declaration_is_refused(arguments: Any, options: Any, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        subscribe(*arguments, **options)(_function)


def test_a_function_that_takes_no_session_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"write def alone\(recorded, session\)"):

        @subscribe("alone", Sold, base=Base)  # type: ignore[arg-type]
        def alone(recorded: RecordedEvent[Sold]) -> None: ...


def test_a_coroutine_function_is_refused() -> None:
    async def later(event: RecordedEvent[Sold], session: Session) -> None: ...

    with pytest.raises(DeclarationError, match="is a coroutine function"):
        subscribe("x", Sold)(later)  # type: ignore[arg-type]


def test_a_closure_that_is_declared_again_under_a_name_is_refused() -> None:
    def declare(branch: str) -> Any:
        def tell(event: RecordedEvent[Sold], session: Session) -> None:
            sent.append((branch, event.event.what))

        return subscribe("branch", Sold, base=Base)(tell)

    first = declare("north")
    with pytest.raises(DeclarationError, match=r"subscription 'branch' is declared twice: within .*tell\. Declare it once"):
        declare("south")
    with pytest.raises(DeclarationError, match="declared twice"):
        subscribe("branch", Sold, base=Base)(lambda _event, _session: None)
    assert subscribe("branch", Sold, base=Base)(first) is first


def test_two_lambdas_of_one_module_are_not_taken_for_each_other() -> None:
    subscribe("lambda", Sold, base=OtherBase)(lambda _event, _session: None)
    with pytest.raises(DeclarationError, match="declared twice"):
        subscribe("lambda", Sold, base=OtherBase)(lambda _event, _session: None)


def test_a_module_may_be_imported_again() -> None:
    def again(event: RecordedEvent[Sold], session: Session) -> None: ...

    again.__module__, again.__qualname__ = send.__module__, send.__qualname__
    try:
        assert subscribe("mailer", Sold, base=Base)(again) is again
    finally:
        subscribe("mailer", Sold, base=Base)(send)
