"""Names of a test's cases."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest


def plainly(value: object) -> str:
    """Say what a value is, in the same words in every process: ``ids=plainly``."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def slow_after(number: int, cases: Iterable[Any]) -> list[Any]:
    """Give a test's cases, of which all but the first so many are slow; each case has one argument."""
    return [each if place < number else pytest.param(each, marks=pytest.mark.slow) for place, each in enumerate(cases)]
