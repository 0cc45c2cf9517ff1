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

from sa_eventsource import AggregateRoot, applies
from tests.bank import Deposited, Opened
from tests.statement_log import record_statements

pytestmark = pytest.mark.slow_on_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def tables() -> MetaData | None:
    return None


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Callable[..., Any]:
    """Declare the class anew, as a process of another release has it; pickles find it by its name."""
    module = ModuleType("accounts_of_a_release")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def declare(*fields: str) -> Any:
        class Base(DeclarativeBase):
            pass

        state: dict[str, Any] = {"balance": (int, 0), "note": (str, "none"), "owner": (str,), "trail": (int, 0)}

        def opened(self: Any, event: Opened) -> None:
            if "owner" in fields:
                self.owner = event.owner

        def deposited(self: Any, event: Deposited) -> None:
            self.balance += event.amount
            if "trail" in fields:
                self.trail += 10

        body = {
            "__module__": module.__name__,
            "__qualname__": "Account",
            "__aggregate_type__": "pickles.Account",
            "__annotations__": {name: state[name][0] for name in fields},
            "opened": applies(Opened)(opened),
            "deposited": applies(Deposited)(deposited),
            **{name: state[name][1] for name in fields if len(state[name]) > 1},
        }
        account_class = type("Account", (AggregateRoot, Base), body)
        vars(module)["Account"] = account_class
        Base.metadata.create_all(engine)
        return account_class

    return declare


def stored(engine: Engine, account_class: Any) -> bytes:
    """Commit an account of two events, and pickle it."""
    with Session(engine) as session:
        account = account_class(id="a-1")
        account.apply_event(Opened(owner="ann"))
        account.apply_event(Deposited(amount=1))
        session.add(account)
        session.commit()
        session.refresh(account)
        session.expunge(account)
        return pickle.dumps(account)


@pytest.mark.parametrize("gained", ["note", "owner", "trail"])
def test_a_field_that_the_class_has_got_is_loaded_with_the_state(engine: Engine, release: Callable[..., Any], gained: str) -> None:
    data = stored(engine, release("balance"))
    release("balance", gained)
    account = pickle.loads(data)
    assert (account.balance, account.version) == (1, 2)
    with pytest.raises(DetachedInstanceError):
        getattr(account, gained)
    with Session(engine) as session:
        session.add(account)
        assert getattr(account, gained) == {"note": "none", "owner": "ann", "trail": 10}[gained]
        assert (account.balance, account.version) == (1, 2)
        session.expire(account)
        assert getattr(account, gained) == {"note": "none", "owner": "ann", "trail": 10}[gained]


def test_an_event_that_is_applied_first_finds_the_whole_state(engine: Engine, release: Callable[..., Any]) -> None:
    data = stored(engine, release("balance"))
    release("balance", "trail")
    account = pickle.loads(data)
    with pytest.raises(DetachedInstanceError):
        account.apply_event(Deposited(amount=1))
    with Session(engine) as session:
        session.add(account)
        account.apply_event(Deposited(amount=1))
        assert (account.balance, account.trail, account.version) == (2, 20, 3)
        session.commit()
        assert (account.balance, account.trail, account.version) == (2, 20, 3)


@pytest.mark.parametrize("is_stored", [True, False], ids=["of a stored one", "of a new one"])
def test_pending_events_stay(engine: Engine, release: Callable[..., Any], *, is_stored: bool) -> None:
    before = release("balance")
    account = pickle.loads(stored(engine, before)) if is_stored else before(id="a-2")
    account.apply_event(Opened(owner="ann"))
    account.apply_event(Deposited(amount=1))
    data = pickle.dumps(account)
    after = release("balance", "trail", "owner")
    account = pickle.loads(data)
    if not is_stored:
        assert (account.owner, account.trail) == ("ann", 10), "its events are all there are"
    with Session(engine) as session:
        session.add(account)
        with session.no_autoflush:
            assert (account.trail, account.balance) == ((20, 2) if is_stored else (10, 1))
            assert len(account.pending_events) == 2
        session.commit()
    with Session(engine) as session:
        assert session.get_one(after, "a-1" if is_stored else "a-2").version == (4 if is_stored else 2)


def test_a_field_that_the_class_has_lost_is_gone_with_the_first_event(engine: Engine, release: Callable[..., Any]) -> None:
    data = stored(engine, release("balance", "note", "owner"))
    release("balance")
    account = pickle.loads(data)
    account.apply_event(Deposited(amount=1))
    assert (account.balance, hasattr(account, "note"), hasattr(account, "owner")) == (2, False, False)
    with Session(engine) as session:
        session.add(account)
        session.commit()
        assert account.balance == 2


def test_of_the_same_fields_nothing_is_read_and_one_that_no_event_has_set_is_as_ever(
    engine: Engine, release: Callable[..., Any]
) -> None:
    before = release("balance", "owner")
    with Session(engine) as session:
        account = before(id="a-3")
        account.apply_event(Deposited(amount=1))
        session.add(account)
        session.commit()
        session.refresh(account)
        session.expunge(account)
        data = pickle.dumps(pickle.loads(pickle.dumps(account)))  # nobody has looked at the one in between
    copy = pickle.loads(data)
    with record_statements(engine) as statements:
        assert (copy.balance, hasattr(copy, "owner")) == (1, False)
        copy.apply_event(Deposited(amount=1))
        assert copy.balance == 2
        with pytest.raises(AttributeError, match="no event has set it yet"):
            _ = copy.owner
    assert statements == []


def test_one_that_a_rollback_makes_transient_again_follows_from_its_events(engine: Engine, release: Callable[..., Any]) -> None:
    account = release("balance")(id="a-4")
    account.apply_event(Deposited(amount=1))
    copy = pickle.loads(pickle.dumps(account))
    with Session(engine) as session:
        session.add(copy)
        session.flush()
        session.rollback()
        assert (copy.balance, copy.version) == (1, 1)


def test_what_is_loaded_with_it_leaves_its_pending_events(engine: Engine, release: Callable[..., Any]) -> None:
    data = stored(engine, release("balance"))
    account = pickle.loads(data)
    account.apply_event(Deposited(amount=1))
    account = pickle.loads(pickle.dumps(account))
    with Session(engine) as session:
        session.add(account)
        session.commit()
        assert (account.balance, account.version) == (2, 3)
