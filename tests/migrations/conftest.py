"""Migrations configure logging, as applications have it in their env.py: what comes after them has it as before."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _logging_stays_as_it_is() -> Iterator[None]:
    known = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    before = [(each, each.handlers[:], each.level, each.disabled, each.propagate) for each in (logging.root, *known)]
    yield
    for each, handlers, level, disabled, propagate in before:
        each.handlers[:], each.level, each.disabled, each.propagate = handlers, level, disabled, propagate
    logging.root.manager._clear_cache()  # type: ignore[attr-defined]
