"""Where the members of objects and the elements of arrays stand in a JSON text: what is not looked for is not read."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN_MEMBER = re.compile(r'"([^"\\]*)":("[^"\\]*(?:\\.[^"\\]*)*"|[\w.+-]+)(?:,(?=")|(?=\}))')
_SPACE = re.compile(r"[ \t\r\n]*")
_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode


def member_spans(text: str, at: int) -> Iterator[tuple[str, int, int]]:
    """List the members of an object that begins somewhere in a JSON text: key, and where the value begins and ends.

    Raises:
        ValueError: No object begins there.
    """
    at = _enter(text, at, "{")
    while text[at] != "}":
        plain = _PLAIN_MEMBER.match(text, at)
        if plain is not None:
            yield plain[1], *plain.span(2)
            at = plain.end()
            continue
        key, at = _scan(text, at)
        start = _skip(text, _skip(text, at) + 1)  # behind the colon
        _, end = _scan(text, start)
        yield key, start, end
        at = _next(text, end)


def item_spans(text: str, at: int) -> Iterator[tuple[int, int]]:
    """List the elements of an array that begins somewhere in a JSON text: where each begins and ends.

    Raises:
        ValueError: No array begins there.
    """
    at = _enter(text, at, "[")
    while text[at] != "]":
        _, end = _scan(text, at)
        yield at, end
        at = _next(text, end)


def _enter(text: str, at: int, character: str) -> int:
    at = _skip(text, at)
    if text[at] != character:
        raise ValueError(f"no {character} stands at {at}")
    return _skip(text, at + 1)


def _next(text: str, at: int) -> int:
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
