"""JSON text as PostgreSQL gives it back.

``jsonb`` keeps what a text means to it, not the text: numbers are decimals, so ``1e16`` comes back as a whole number and ``-0.0``
without its sign; the members of an object are ordered by the length of their names, and of two with one name the last stays.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

_DIGITS_BEFORE, _DIGITS_AFTER = 131_072, 16_383
"""What PostgreSQL's numeric holds before and after the decimal point."""


def parsed(text: str) -> Any:
    """Read a JSON text as Python's ``json`` reads what PostgreSQL gives back.

    Raises:
        ValueError: It is not JSON that PostgreSQL takes.
        RecursionError: It is nested too deeply.
    """
    return _decoder.decode(text)


def as_text(document: Any) -> str:
    """Write what :func:`parsed` gave."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _number(text: str) -> float | int:
    """Read a number that is not written as a whole one."""
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    if number.adjusted() >= _DIGITS_BEFORE or not isinstance(exponent, int) or -exponent > _DIGITS_AFTER:
        raise ValueError(f"the number {text[:20]} is beyond what PostgreSQL's numeric holds")
    if exponent >= 0:
        return int(number)
    return float(text) + 0.0  # no negative zero


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(sorted(dict(pairs).items(), key=_place))


def _place(member: tuple[str, Any]) -> tuple[int, bytes]:
    name = member[0].encode("utf-8", "surrogatepass")
    return len(name), name


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON can hold")


_decoder = json.JSONDecoder(object_pairs_hook=_members, parse_float=_number, parse_constant=_refuse_constant)
