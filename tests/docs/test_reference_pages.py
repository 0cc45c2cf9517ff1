"""What the built reference shows: the options that an application sets, and names without the marks that only editors need."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from sa_eventsource.class_options import Kind

ROOT = Path(__file__).parents[2]


def _filter() -> re.Pattern[str]:
    found = re.search(r'filters: \["!(.*)"\]', (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert found is not None
    return re.compile(found[1])


@pytest.mark.parametrize("option", [option for kind in Kind for option in kind.options])
def test_every_option_is_shown(option: str) -> None:
    assert _filter().search(option) is None


@pytest.mark.parametrize("name", ["_private", "__init__", "__version", "__versioned__", "__state_fields__", "_version__"])
def test_other_names_with_an_underscore_are_not(name: str) -> None:
    assert _filter().search(name) is not None


def _hooks() -> Any:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        (":class:<code>Session</code>", "<code>Session</code>"),
        (":func:<code>~sa_eventsource.read_models.map_from_event</code>", "<code>map_from_event</code>"),
        (":meth:<code>~all</code> and :mod:<code>a.b</code>", "<code>all</code> and <code>a.b</code>"),
        ("<code>~/.config</code>, <code>:class:</code>", "<code>~/.config</code>, <code>:class:</code>"),
    ],
)
def test_roles_show_the_name_alone(html: str, shown: str) -> None:
    assert _hooks().on_page_content(html) == shown
