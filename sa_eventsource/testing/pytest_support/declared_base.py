"""Which declarative base is tested."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import pytest

_HOW = (
    'Say which declarative base is tested: eventsource_base = "shop.models:Base" in the ini file ([tool.pytest.ini_options] of '
    "pyproject.toml), --eventsource-base, or a fixture of that name in conftest.py, of the scope session, that returns it"
)


def base_named_by(config: pytest.Config) -> Any:
    """Import the base that the command line or the ini file names.

    Raises:
        UsageError: None is named, or there is none of that name.
    """
    reference: str = config.getoption("--eventsource-base") or config.getini("eventsource_base")
    if not reference:
        raise pytest.UsageError(_HOW)
    module_name, separator, path = reference.partition(":")
    if not (separator and module_name and path):
        raise pytest.UsageError(f"{reference!r} does not name a declarative base. {_HOW}")
    root = str(config.rootpath)
    if root not in sys.path:
        sys.path.insert(0, root)
    found: Any = import_module(module_name)  # what it raises says where
    for name in path.split("."):
        found = getattr(found, name, None)
    if not hasattr(found, "metadata"):
        raise pytest.UsageError(f"{reference!r} is not a declarative base. {_HOW}")
    return found
