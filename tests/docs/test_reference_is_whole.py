"""The reference has each public name, and each error stands in the list by name."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import sa_eventsource
from sa_eventsource import exceptions, migrations, testing
from sa_eventsource.testing import races

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
PUBLIC = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module in (sa_eventsource, exceptions, testing, races, migrations)
    for name in module.__all__
    if name != "__version__"
]

_DIRECTIVE = re.compile(r"^::: (\S+)", re.MULTILINE)
_ENTRY = re.compile(r"^## (\w+)\n\n(.+?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def found(path: str) -> Any:
    """Find what a directive names: a module, or what is in one."""
    module, _, name = path.rpartition(".")
    parent = importlib.import_module(module)
    return getattr(parent, name) if hasattr(parent, name) else importlib.import_module(path)


DIRECTIVES = [path for page in REFERENCE.glob("*.md") for path in _DIRECTIVE.findall(page.read_text(encoding="utf-8"))]


def shown() -> list[Any]:
    """List what the pages show: what a directive names, and of a module all that it defines."""
    named = [found(path) for path in DIRECTIVES]
    return named + [each for module in named if isinstance(module, ModuleType) for each in vars(module).values()]


SHOWN = {id(each) for each in shown()}
ENTRIES = dict(_ENTRY.findall((REFERENCE / "errors-by-name.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize("public", PUBLIC)
def test_a_public_name_has_its_place(public: Any) -> None:
    assert id(public) in SHOWN


@pytest.mark.parametrize("path", DIRECTIVES)
def test_a_directive_names_one_thing(path: str) -> None:
    """Where a module has the name of a function in it, the page would show the module: name the function by its whole path."""
    is_module = (ROOT / Path(*path.split("."))).with_suffix(".py").exists()
    assert isinstance(found(path), ModuleType) or not is_module


def test_what_is_not_public_is_not_taken_for_it() -> None:
    assert id(exceptions.EventSourceError) in SHOWN
    assert id(exceptions) not in SHOWN
    assert id(pytest.param) not in SHOWN


def test_each_error_is_explained_by_name() -> None:
    """In alphabetical order, and none that is gone."""
    assert list(ENTRIES) == sorted(exceptions.__all__)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_explanation_says_more_than_the_name(name: str) -> None:
    """The first sentence says what happened; what to do follows, unless the class is only a base of others."""
    sentences = re.findall(r"[^.:]{8,}[.:]", ENTRIES[name])
    assert len(sentences) >= 2 or getattr(exceptions, name).__subclasses__()
