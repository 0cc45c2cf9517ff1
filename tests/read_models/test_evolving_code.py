"""The code of ``@evolves`` methods is part of a model's declaration: what matters of it, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sa_eventsource.read_models import definition_of

MODULE = """
from decimal import Decimal
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, RecordedEvent, evolves
from sa_eventsource.exceptions import DeclarationError

class Base(DeclarativeBase): pass

class Told(DomainEvent):
    __event_type__ = "evolving_code.Told"
    number: int

def helped(number):
    return number + STEP

STEP = 1
NAMES = {"a": 1, "b": frozenset({"x", "y", "z"})}
UNUSED = 1

class Model(ReadModel, Base):
    number: Mapped[int] = mapped_column(default=0)
    least = 3

    @evolves(Told)
    def told(self, recorded: RecordedEvent[Told]) -> None:
        self.number = max(self.sum_of(recorded.event.number), self.least)
        if self.number in (1, 2):
            self.number += NAMES["a"]

    def sum_of(self, number: int) -> int:
        return helped(self.number + number)

    def unused(self) -> int:
        return 1
"""


def fingerprint(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Import a module from a file and ask for the model's digest."""
    name = f"evolving_code_{len(list(folder.iterdir()))}"
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("evolving_code", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "evolving_code", module)
    spec.loader.exec_module(module)
    model: Any = module.Model
    return definition_of(model).fingerprint


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("self.number += NAMES", "self.number -= NAMES"),
        ("number + STEP", "number + 2 * STEP"),
        ("STEP = 1", "STEP = 2"),
        ('"z"', '"w"'),
        ("helped(self.number + number)", "helped(self.number - number)"),
        ("least = 3", "least = 4"),
        ("default=0", "default=1"),
        ("Mapped[int] =", "Mapped[int | None] ="),
    ],
    ids=["method", "function", "constant", "in a container", "method of the model", "attribute", "default", "optional"],
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
    ],
    ids=["layout", "documentation", "annotations", "unused constant", "unused method", "field of the event"],
)
def test_what_rows_do_not_follow_from_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    assert before in MODULE
    changed = MODULE.replace(before, after)
    assert fingerprint(tmp_path, MODULE, monkeypatch) == fingerprint(tmp_path, changed, monkeypatch)


def test_code_without_source_has_a_digest_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(source: str) -> str:
        module = ModuleType("evolving_code")
        monkeypatch.setitem(sys.modules, "evolving_code", module)
        exec(compile(source, "<console>", "exec"), vars(module))
        model: Any = vars(module)["Model"]
        return definition_of(model).fingerprint

    assert digest(MODULE) == digest(MODULE)
    assert digest(MODULE) != digest(MODULE.replace("self.number += NAMES", "self.number -= NAMES"))
    assert digest(MODULE) != digest(MODULE.replace("number + STEP", "number + 2 * STEP"))
