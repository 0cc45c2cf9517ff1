"""The code of ``@evolves`` methods is part of a model's declaration: what matters of it, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sa_eventsource import DomainEvent
from sa_eventsource.events import event_types
from sa_eventsource.read_models import definition_of

MODULE = """
import enum
import functools
import re
from decimal import Decimal
from sqlalchemy.ext.hybrid import hybrid_method, hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, validates
from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, RecordedEvent, evolves
from sa_eventsource.exceptions import DeclarationError

class Base(DeclarativeBase): pass

class Told(DomainEvent):
    __event_type__ = "evolving_code.Told"
    number: int

class Size(enum.Enum):
    LARGE = "large"
    SMALL = "small"

class Money:
    least = 1

    @staticmethod
    def rounded(number):
        return number // 1

def helped(number):
    return Money.rounded(number) + STEP

@functools.lru_cache
def cached(number):
    return number + 4

STEP = 1
MOST = 1000
DIGITS, WORDS = re.compile("[0-9]"), re.compile("[a-z]")
NAMES = {"a": 1, "b": frozenset({"x", "y", "z"})}
UNUSED = 1

class Model(ReadModel, Base):
    __projection_name__ = "evolving_code"
    number: Mapped[int] = mapped_column(default=0)
    size: Mapped[Size] = mapped_column(default=Size.SMALL)
    least = 3

    @evolves(Told)
    def told(self, recorded: RecordedEvent[Told]) -> None:
        self.number = max(self.sum_of(recorded.event.number), self.least)
        if self.number in (1, 2):
            self.number += NAMES["a"]
        if isinstance(recorded.event, Told) and DIGITS.search(str(self.number)):
            self.number += cached(2)
        self.size = Size.LARGE if self.number > 100 else Size.SMALL
        self.number += self.shown + self.hybrid + self.called()
        self.halved = 2

    @property
    def shown(self) -> int:
        return 20

    @property
    def halved(self) -> int:
        return self.number // 2

    @halved.setter
    def halved(self, value: int) -> None:
        self.number = value * 2

    @hybrid_property
    def hybrid(self) -> int:
        return 30

    @hybrid_method
    def called(self) -> int:
        return 40

    @validates("number")
    def checked(self, name: str, number: int) -> int:
        return min(number, MOST)

    def sum_of(self, number: int) -> int:
        return helped(self.number + number)

    def unused(self) -> int:
        return 1
"""


def fingerprint(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch, module_name: str = "evolving_code") -> str:
    """Import a module from a file and ask for the model's digest."""
    name = f"evolving_code_{len(list(folder.iterdir()))}"
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, module_name, module)
    spec.loader.exec_module(module)
    return definition_of(_model_in(module)).fingerprint


def _model_in(module: ModuleType) -> Any:
    return next(each for each in vars(module).values() if isinstance(each, type) and "__read_model_definition__" in vars(each))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("self.number += NAMES", "self.number -= NAMES"),
        (" + STEP", " + 2 * STEP"),
        ("STEP = 1", "STEP = 2"),
        ('"z"', '"w"'),
        ("helped(self.number + number)", "helped(self.number - number)"),
        ("least = 3", "least = 4"),
        ("number + 4", "number + 5"),
        ("number // 1", "number // 2"),
        ('LARGE = "large"', 'LARGE = "big"'),
        ("Size.LARGE if", "Size.SMALL if"),
        ("DIGITS.search", "WORDS.search"),
        ("default=0", "default=1"),
        ("Mapped[int] =", "Mapped[int | None] ="),
        ("return 20", "return 21"),
        ("value * 2", "value * 3"),
        ("return 30", "return 31"),
        ("return 40", "return 41"),
        ("min(number, MOST)", "max(number, MOST)"),
        ("MOST = 1000", "MOST = 1001"),
        ('    @validates("number")\n', ""),
    ],
    ids=[
        "method",
        "function",
        "constant",
        "in a container",
        "method of the model",
        "attribute",
        "behind a cache",
        "method of another class",
        "member's value",
        "another member",
        "another constant of one type",
        "default",
        "optional",
        "property",
        "setter of a property",
        "hybrid property",
        "hybrid method",
        "validator",
        "constant of a validator",
        "no validator",
    ],
)
def test_what_rows_follow_from_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    assert before in MODULE
    changed = MODULE.replace(before, after)
    assert fingerprint(tmp_path, MODULE, monkeypatch) != fingerprint(tmp_path, changed, monkeypatch)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "        if self.number in (1, 2):",
            "        # which\n\n        if self.number in (\n            1,\n            2,\n        ):",
        ),
        ("-> None:\n", '-> None:\n        """Say what it does."""\n'),
        ("recorded: RecordedEvent[Told]) -> None", "recorded)"),
        ("UNUSED = 1", "UNUSED = 2"),
        ("return 1", "return 2"),
        ("    number: int\n", '    number: int\n    remark: str = ""\n'),
        ("Told", "Said"),
        ("Size", "Extent"),
        ("class Model", "class Rows"),
        ('SMALL = "small"', 'SMALL = "small"\n    MIDDLE = "middle"'),
    ],
    ids=[
        "layout",
        "documentation",
        "annotations",
        "unused constant",
        "unused method",
        "field of the event",
        "name of the event's class",
        "name of the enumeration",
        "name of the model's class",
        "another member of the enumeration",
    ],
)
def test_what_rows_do_not_follow_from_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    assert before in MODULE
    changed = MODULE.replace(before, after).replace("evolving_code.Said", "evolving_code.Told")
    here = fingerprint(tmp_path, MODULE, monkeypatch)
    monkeypatch.setattr(event_types, "_classes", {})  # another process
    assert fingerprint(tmp_path, changed, monkeypatch) == here


def test_where_the_module_lies_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = fingerprint(tmp_path, MODULE, monkeypatch, "evolving_code")
    monkeypatch.setattr(event_types, "_classes", {})  # another process
    assert fingerprint(tmp_path, MODULE, monkeypatch, "moved.evolving_code") == here


MOVED = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sa_eventsource import ReadModel, RecordedEvent, evolves
import evolving_told
from evolving_told import Told, steps

class Base(DeclarativeBase): pass

class Model(ReadModel, Base):
    number: Mapped[int] = mapped_column(default=0)

    @evolves(Told)
    def told(self, recorded: RecordedEvent[Told]) -> None:
        if isinstance(recorded.event, evolving_told.Told):
            self.number = steps.stepped(self.number) + evolving_told.steps.STEP
"""


def test_what_is_taken_from_a_module_counts_and_not_which_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(of_events: str, of_steps: str, *, step: int, stepped: str = "number + STEP") -> str:
        class Told(DomainEvent):
            __event_type__ = "evolving_code.Told"

        events, steps = ModuleType(of_events), ModuleType(of_steps)
        exec(f"STEP = {step}\ndef stepped(number): return {stepped}", vars(steps))
        vars(events).update(Told=Told, steps=steps)
        for module in (events, steps):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return fingerprint(tmp_path, MOVED.replace("evolving_told", of_events), monkeypatch)

    monkeypatch.setattr(event_types, "_classes", {})
    before = digest("evolving_told", "evolving_steps", step=1)
    assert digest("evolving_said", "evolving_steps", step=1) == before
    assert digest("evolving_told", "other_steps", step=1) == before
    assert digest("evolving_told", "evolving_steps", step=2) != before
    assert digest("evolving_told", "evolving_steps", step=1, stepped="number - STEP") != before


def test_code_without_source_has_a_digest_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(source: str) -> str:
        module = ModuleType("evolving_code")
        monkeypatch.setitem(sys.modules, "evolving_code", module)
        monkeypatch.setattr(event_types, "_classes", {})
        exec(compile(source, "<console>", "exec"), vars(module))
        return definition_of(_model_in(module)).fingerprint

    assert digest(MODULE) == digest(MODULE)
    assert digest(MODULE) != digest(MODULE.replace("self.number += NAMES", "self.number -= NAMES"))
    assert digest(MODULE) != digest(MODULE.replace(" + STEP", " + 2 * STEP"))
    assert digest(MODULE) == digest(MODULE.replace("Told", "Said").replace("evolving_code.Said", "evolving_code.Told"))
