"""The fingerprint of snapshots: other for every change that could make the state otherwise, the same in every process, or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import types
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DeclarationError, DomainEvent, SnapshotWarning, applies
from sa_eventsource.aggregates import definition_of
from sa_eventsource.events import event_types
from sa_eventsource.events.event_types import changed
from tests.bank import AnyAccount, Deposited
from tests.session.fingerprint_cases import CHANGES, INDIGESTIBLE, SAME, TWINS


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture(scope="module", params=["1", "2"])
def fingerprints(request: pytest.FixtureRequest) -> dict[str, str | None]:
    """The fingerprints of all releases, from a process of its own in which hashes, and so the order of sets, are others."""
    command = [sys.executable, "-m", "tests.session.fingerprint_cases"]
    environment = os.environ | {"PYTHONHASHSEED": request.param}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=600)
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


_in_the_first_process: dict[str, str | None] = {}


@pytest.mark.slow
def test_it_is_the_same_in_every_process(fingerprints: dict[str, str | None]) -> None:
    _in_the_first_process.update({} if _in_the_first_process else fingerprints)
    assert fingerprints == _in_the_first_process


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_it_sees_a_change(fingerprints: dict[str, str | None], change: str) -> None:
    assert fingerprints[change] is not None
    assert fingerprints[change] != fingerprints["nothing"]


@pytest.mark.slow
def test_all_changes_are_told_from_each_other(fingerprints: dict[str, str | None]) -> None:
    assert len({fingerprints[change] for change in CHANGES}) == len(CHANGES)


@pytest.mark.slow
@pytest.mark.parametrize("change", SAME)
def test_it_does_not_see_what_makes_no_difference(fingerprints: dict[str, str | None], change: str) -> None:
    assert fingerprints[change] is not None
    assert fingerprints[change] == fingerprints["nothing"]


@pytest.mark.slow
@pytest.mark.parametrize("change", TWINS)
def test_it_sees_a_change_of_what_only_a_name_at_run_time_finds(fingerprints: dict[str, str | None], change: str) -> None:
    assert fingerprints[f"before {change}"] is not None
    assert fingerprints[f"before {change}"] != fingerprints[f"after {change}"]


@pytest.mark.slow
@pytest.mark.parametrize("change", INDIGESTIBLE)
def test_there_is_none_where_something_has_no_value_outside_of_its_process(
    fingerprints: dict[str, str | None], change: str
) -> None:
    assert fingerprints[change] is None


class Base(DeclarativeBase):
    """The declarative base of these tests."""


LOCK = threading.Lock()


class Locked(AnyAccount, Base):
    """Asks for snapshots, and names a lock."""

    __snapshot_frequency__ = 1

    def _deposited(self, event: Deposited) -> None:
        with LOCK:
            super()._deposited(event)


class Unstorable(AnyAccount, Base):
    """Asks for snapshots of what Pydantic does not know."""

    __snapshot_frequency__ = 1

    lock: threading.Thread | None = None


class Raised(DomainEvent):
    """A counter went up; one of the tests declares a further event of this kind."""

    __event_type__ = "fingerprints.Raised"


class Counter(AggregateRoot, Base):
    """Asks for snapshots."""

    __snapshot_frequency__ = 1

    number: int = 0

    @applies(Raised)
    def _raised(self, _event: Raised) -> None:
        self.number += 1


@pytest.mark.parametrize(
    ("kind", "reason"), [(Locked, r"Locked\._deposited → LOCK: a _thread\.lock"), (Unstorable, "Pydantic cannot store its state")]
)
def test_a_class_without_a_fingerprint_is_read_from_its_events_and_warns_once(engine: Engine, kind: Any, reason: str) -> None:
    changed()  # whatever was digested in an earlier test is digested anew
    with Session(engine) as session:
        aggregate = kind(id="one")
        aggregate.deposit()
        session.add(aggregate)
        with pytest.warns(SnapshotWarning, match=reason) as caught:
            session.commit()
        assert len(caught) == 1
        warning: Any = caught[0].message
        assert warning.aggregate_class == kind.__name__
        aggregate.deposit()
        session.commit()
        session.expunge_all()
        assert session.get_one(kind, "one").balance == 2
        assert session.scalar(text("SELECT count(*) FROM snapshots")) == 0


def test_it_is_another_one_when_an_event_is_declared_later_that_the_class_takes() -> None:
    definition = definition_of(Counter)
    before = definition.fingerprint
    assert before is not None
    type("Elsewhere", (DomainEvent,), {"__module__": __name__, "__event_type__": "fingerprints.Elsewhere"})
    assert definition.fingerprint == before
    type("RaisedTwice", (Raised,), {"__module__": __name__, "__event_type__": "fingerprints.RaisedTwice"})
    assert definition.fingerprint not in (before, None)


SCRIPT = """
from sqlalchemy.orm import DeclarativeBase
from sa_eventsource import AggregateRoot, DomainEvent, applies

class Base(DeclarativeBase): ...

class Tapped(DomainEvent):
    __event_type__ = "fingerprints.Tapped"

def step(): return 1

class Tap(AggregateRoot, Base):
    n: int = 0

    @applies(Tapped)
    def _tapped(self, event): self.n += step()
"""


def test_what_a_script_declares_is_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(source: str) -> str | None:
        script = types.ModuleType("__main__")
        script.__file__ = "site-packages/taps/__main__.py"  # python -m taps
        monkeypatch.setitem(sys.modules, "__main__", script)
        monkeypatch.setattr(event_types, "_classes", {})  # another process
        exec(source, vars(script))
        return definition_of(script.Tap).fingerprint

    assert fingerprint(SCRIPT) is not None
    assert fingerprint(SCRIPT) == fingerprint(SCRIPT)
    assert fingerprint(SCRIPT) != fingerprint(SCRIPT.replace("return 1", "return 2"))


@pytest.mark.parametrize("frequency", [0, -1, "100", 2.5, True])
def test_a_frequency_that_is_no_number_of_events_is_refused(frequency: Any) -> None:
    base = type("OtherBase", (DeclarativeBase,), {})
    with pytest.raises(DeclarationError, match=r"__snapshot_frequency__ is .*; it must be a whole number"):
        type("Wrong", (AggregateRoot, base), {"__module__": __name__, "__snapshot_frequency__": frequency})
