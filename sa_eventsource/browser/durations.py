"""Durations in words, in the unit that suits them."""

from __future__ import annotations

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """Write a duration with one digit behind the point, such as ``1.5 h``; below a second, in whole milliseconds."""
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds * 1000:.0f} ms"
