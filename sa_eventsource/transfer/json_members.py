"""Taking a JSON object apart: the value of each member, with the text that it had, to the last digit of its numbers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_WHITE = " \t\r\n"
_SPACE = re.compile(f"[{_WHITE}]*")

# What PostgreSQL's numeric holds: digits before and after the decimal point.
_DIGITS_BEFORE, _DIGITS_AFTER = 131_072, 16_383


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an object.

    Attributes:
        value: Its value; numbers are :class:`Number`.
        text: The JSON text it was read from.
    """

    value: Any
    text: str


class Number(NamedTuple):
    """A number, exactly; equal to no truth value."""

    value: Decimal


class MemberError(ValueError):
    """A text is not a JSON object, or one that the log cannot hold."""

    def __init__(self, name: str, reason: str) -> None:
        """Keep the member's name, empty for the object as a whole, and the reason."""
        self.name = name
        self.reason = reason
        super().__init__(f"{name}: {reason}")


def members_of(text: str) -> dict[str, Member]:
    """Take an object apart.

    Raises:
        MemberError: It is not a JSON object, a name comes twice, or a number is beyond what PostgreSQL holds.
    """
    found: dict[str, Member] = {}
    name = ""
    try:
        at = _expect(text, _skip(text, 0), "{")
        more = text[at : at + 1] != "}"
        while more:
            _expect(text, at, '"')
            name, at = _decoder.raw_decode(text, at)
            start = _expect(text, _skip(text, at), ":")
            if name in found:
                raise MemberError(name, "it is there twice")
            value, at = _decoder.raw_decode(text, start)
            found[name] = Member(value, text[start:at])
            name, at = "", _skip(text, at)
            more = text[at : at + 1] == ","
            if more:
                at = _skip(text, at + 1)
        at = _expect(text, at, "}")
        if at != len(text):
            raise json.JSONDecodeError("Extra data", text, at)
    except json.JSONDecodeError as error:
        raise MemberError(name, f"it is not JSON: {error.msg} at character {error.pos + 1} of the line") from error
    except (_NumberError, RecursionError) as error:
        raise MemberError(name, _unreadable(error)) from error
    return found


def member_of(name: str, text: str) -> Member:
    """Read a JSON text that is a member's value.

    Raises:
        MemberError: It is not JSON, or a number is beyond what PostgreSQL holds.
    """
    text = text.strip(_WHITE)
    try:
        return Member(_decoder.decode(text), text)
    except json.JSONDecodeError as error:
        raise MemberError(name, f"it is not JSON: {error.msg} at character {error.pos + 1} of its text") from error
    except (_NumberError, RecursionError) as error:
        raise MemberError(name, _unreadable(error)) from error


def _unreadable(error: Exception) -> str:
    return str(error) if isinstance(error, _NumberError) else "it is nested too deeply"


def document(text: str | None) -> Any:
    """Read a JSON text, or None, for comparison: ``1.50`` and ``1.5`` are equal, as for ``jsonb``."""
    return None if text is None else _decoder.decode(text)


def unstorable(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Find, in a value and all it holds, what no database stores: paths and reasons."""
    waiting = [(path, value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            reason = unstorable_text(value)
            if reason is not None:
                yield path, reason
        elif isinstance(value, list):
            waiting += [(f"{path}.{index}", each) for index, each in enumerate(value)]
        elif isinstance(value, dict):
            for key, each in value.items():
                reason = unstorable_text(key)
                if reason is not None:
                    yield path, f"in one of its keys, {reason}"
                waiting.append((f"{path}.{key}", each))


def unstorable_text(text: str) -> str | None:
    """Say why a text cannot be stored; None if it can."""
    if "\x00" in text:
        return "it holds a NUL character, which PostgreSQL cannot store"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "it holds half of a surrogate pair, which is no character"
    return None


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _expect(text: str, at: int, character: str) -> int:
    """Go on behind *character* and the white space that follows it."""
    if text[at : at + 1] != character:
        raise json.JSONDecodeError(f"Expecting {character}", text, at)
    return _skip(text, at + 1)


class _NumberError(ValueError):
    """A number that the log cannot hold."""


def _number(text: str) -> Number:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("Infinity")
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or number.adjusted() >= _DIGITS_BEFORE or -exponent > _DIGITS_AFTER:
        raise _NumberError(f"the number {text[:20]}{'...' * (len(text) > 20)} is beyond what PostgreSQL's numeric holds")  # noqa: PLR2004
    return Number(number)


def _refuse_constant(name: str) -> None:
    raise _NumberError(f"{name} is not a number that JSON can hold")


_decoder = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_refuse_constant)
