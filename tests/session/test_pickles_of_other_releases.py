"""An aggregate that was pickled when its class had other state fields."""

from __future__ import annotations

import pickle
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.orm.exc import DetachedInstanceError

from sa_eventsource import AggregateRoot, DomainEvent, applies
from tests.statement_log import record_statements

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable


class Opened(DomainEvent):
    """A ticket was opened."""

    __event_type__ = "pickles.Opened"
    subject: str = "lamp"


class Moved(DomainEvent):
    """A ticket was moved."""

    __event_type__ = "pickles.Moved"


@pytest.fixture
def tables() -> MetaData | None:
    return None


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Callable[..., Any]:
    """Declare the class anew, as a process of another release has it; pickles find it by its name."""
    module = ModuleType("tickets_of_a_release")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def declare(*fields: str) -> Any:
        class Base(DeclarativeBase):
            pass

        state: dict[str, Any] = {"moves": (int, 0), "note": (str, "none"), "subject": (str,), "trail": (int, 0)}

        def opened(self: Any, event: Opened) -> None:
            if "subject" in fields:
                self.subject = event.subject

        def moved(self: Any, _event: Moved) -> None:
            self.moves += 1
            if "trail" in fields:
                self.trail += 10

        body = {
            "__module__": module.__name__,
            "__qualname__": "Ticket",
            "__aggregate_type__": "pickles.Ticket",
            "__annotations__": {name: state[name][0] for name in fields},
            "opened": applies(Opened)(opened),
            "moved": applies(Moved)(moved),
            **{name: state[name][1] for name in fields if len(state[name]) > 1},
        }
        ticket_class = type("Ticket", (AggregateRoot, Base), body)
        vars(module)["Ticket"] = ticket_class
        Base.metadata.create_all(engine)
        return ticket_class

    return declare


def stored(engine: Engine, ticket_class: Any) -> bytes:
    """Commit a ticket of two events, and pickle it."""
    with Session(engine) as session:
        ticket = ticket_class(id="t-1")
        ticket.apply_event(Opened())
        ticket.apply_event(Moved())
        session.add(ticket)
        session.commit()
        session.refresh(ticket)
        session.expunge(ticket)
        return pickle.dumps(ticket)


@pytest.mark.parametrize("gained", ["note", "subject", "trail"])
def test_a_field_that_the_class_has_got_is_loaded_with_the_state(engine: Engine, release: Callable[..., Any], gained: str) -> None:
    data = stored(engine, release("moves"))
    release("moves", gained)
    ticket = pickle.loads(data)
    assert (ticket.moves, ticket.version) == (1, 2)
    with pytest.raises(DetachedInstanceError):
        getattr(ticket, gained)
    with Session(engine) as session:
        session.add(ticket)
        assert getattr(ticket, gained) == {"note": "none", "subject": "lamp", "trail": 10}[gained]
        assert (ticket.moves, ticket.version) == (1, 2)
        session.expire(ticket)
        assert getattr(ticket, gained) == {"note": "none", "subject": "lamp", "trail": 10}[gained]


def test_an_event_that_is_applied_first_finds_the_whole_state(engine: Engine, release: Callable[..., Any]) -> None:
    data = stored(engine, release("moves"))
    release("moves", "trail")
    ticket = pickle.loads(data)
    with pytest.raises(DetachedInstanceError):
        ticket.apply_event(Moved())
    with Session(engine) as session:
        session.add(ticket)
        ticket.apply_event(Moved())
        assert (ticket.moves, ticket.trail, ticket.version) == (2, 20, 3)
        session.commit()
        assert (ticket.moves, ticket.trail, ticket.version) == (2, 20, 3)


@pytest.mark.parametrize("is_stored", [True, False], ids=["of a stored one", "of a new one"])
def test_pending_events_stay(engine: Engine, release: Callable[..., Any], *, is_stored: bool) -> None:
    before = release("moves")
    ticket = pickle.loads(stored(engine, before)) if is_stored else before(id="t-2")
    ticket.apply_event(Opened())
    ticket.apply_event(Moved())
    data = pickle.dumps(ticket)
    after = release("moves", "trail", "subject")
    ticket = pickle.loads(data)
    if not is_stored:
        assert (ticket.subject, ticket.trail) == ("lamp", 10), "its events are all there are"
    with Session(engine) as session:
        session.add(ticket)
        with session.no_autoflush:
            assert (ticket.trail, ticket.moves) == ((20, 2) if is_stored else (10, 1))
            assert len(ticket.pending_events) == 2
        session.commit()
    with Session(engine) as session:
        assert session.get_one(after, "t-1" if is_stored else "t-2").version == (4 if is_stored else 2)


def test_a_field_that_the_class_has_lost_is_gone_with_the_first_event(engine: Engine, release: Callable[..., Any]) -> None:
    data = stored(engine, release("moves", "note", "subject"))
    release("moves")
    ticket = pickle.loads(data)
    ticket.apply_event(Moved())
    assert (ticket.moves, hasattr(ticket, "note"), hasattr(ticket, "subject")) == (2, False, False)
    with Session(engine) as session:
        session.add(ticket)
        session.commit()
        assert ticket.moves == 2


def test_of_the_same_fields_nothing_is_read_and_one_that_no_event_has_set_is_as_ever(
    engine: Engine, release: Callable[..., Any]
) -> None:
    before = release("moves", "subject")
    with Session(engine) as session:
        ticket = before(id="t-3")
        ticket.apply_event(Moved())
        session.add(ticket)
        session.commit()
        session.refresh(ticket)
        session.expunge(ticket)
        data = pickle.dumps(pickle.loads(pickle.dumps(ticket)))  # nobody has looked at the one in between
    copy = pickle.loads(data)
    with record_statements(engine) as statements:
        assert (copy.moves, hasattr(copy, "subject")) == (1, False)
        copy.apply_event(Moved())
        assert copy.moves == 2
        with pytest.raises(AttributeError, match="no event has set it yet"):
            _ = copy.subject
    assert statements == []


def test_one_that_a_rollback_makes_transient_again_follows_from_its_events(engine: Engine, release: Callable[..., Any]) -> None:
    ticket = release("moves")(id="t-4")
    ticket.apply_event(Moved())
    copy = pickle.loads(pickle.dumps(ticket))
    with Session(engine) as session:
        session.add(copy)
        session.flush()
        session.rollback()
        assert (copy.moves, copy.version) == (1, 1)


def test_what_is_loaded_with_it_leaves_its_pending_events(engine: Engine, release: Callable[..., Any]) -> None:
    data = stored(engine, release("moves"))
    ticket = pickle.loads(data)
    ticket.apply_event(Moved())
    ticket = pickle.loads(pickle.dumps(ticket))
    with Session(engine) as session:
        session.add(ticket)
        session.commit()
        assert (ticket.moves, ticket.version) == (2, 3)
