"""What tests of migrations share.

Migrations configure logging, as applications have it in their env.py: what comes after them has it as before.
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _logging_stays_as_it_is() -> Iterator[None]:
    known = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    before = [(each, each.handlers[:], each.level, each.disabled, each.propagate) for each in (logging.root, *known)]
    yield
    for each, handlers, level, disabled, propagate in before:
        each.handlers[:], each.level, each.disabled, each.propagate = handlers, level, disabled, propagate
    logging.root.manager._clear_cache()  # type: ignore[attr-defined]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a module that can be imported from the test's folder."""
    name = f"models_{uuid.uuid4().hex}"
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)
