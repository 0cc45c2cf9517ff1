"""Sealed values in a payload: how they are written, and where they are found again.

A personal value, whatever its type, is stored as an object: ``{"$sealed": "<key>.<box>", "placeholder": "(forgotten)"}``, the
placeholder left out where it is null. The text around it stays as it is, to the last digit of its numbers; so nothing is read and
written again here, but cut out and put in.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Path: TypeAlias = tuple[str, ...]

SEALED = "$sealed"
"""The key that marks a sealed value."""

SEALED_BEGINNING = f'{{"{SEALED}"'
"""How the text of a sealed value begins, wherever it is stored."""

_PLACEHOLDER = "placeholder"
_MARK = f'"{SEALED}"'
_BEGINNING = re.compile(r'\{\s*"\$sealed"\s*:')
_TOKEN = re.compile(r"([0-9a-f+]{32,})\.([A-Za-z0-9+/]+={0,2})")
_MEMBER = re.compile(r'(?<!\\)"([^"\\]*)": ?\Z')
_KEY_IDS = re.compile(r'"\$sealed"\s*:\s*"([0-9a-f+]{32,})\.')
_split = re.compile(r'\{"\$sealed": ?"([0-9a-f]{32})\.([^"]+)"(?:, ?"placeholder": ?("[^"\\]*"|[\w.+-]+))?\}').split
_decoder = json.JSONDecoder()


def sealed_text(key: str, box: str, placeholder: str = "null") -> str:
    """Write a sealed value."""
    rest = "" if placeholder == "null" else f',"{_PLACEHOLDER}":{placeholder}'
    return f'{{"{SEALED}":"{key}.{box}"{rest}}}'


def cut_flat(payloads: Sequence[str]) -> list[str] | None:
    """Cut the texts of payloads, joined by line feeds, at their sealed values, in one go. They are put together by ``"".join``.

    Returns:
        What is before the first; then, for each, the id of its key, what was sealed, what stands for it once the subject is
        forgotten (None for null), and the text behind it, up to the next. None where it is not certain that each payload is one
        object that holds no other objects, no arrays, and sealed values in no other form than as written here or by the database.
    """
    text = "\n".join(payloads)
    pieces: list[str] = _split(text)
    objects = len(payloads) + len(pieces) // 4
    return pieces if "[" not in text and text.count("{") == objects and text.count("\n") == len(payloads) - 1 else None


def key_ids_in(payload: str) -> set[str]:
    """List the ids of keys that a payload has something sealed with; one too many where a text only looks like that."""
    return {key_id for key_ids in _KEY_IDS.findall(payload) for key_id in key_ids.split("+")}


def is_flat(payload: str) -> bool:
    """Check whether a payload by itself is one for :func:`cut_flat`."""
    return cut_flat([payload]) is not None


def member_before(text: str) -> tuple[str, str]:
    """Give the key of the member whose value comes behind a text, and how the text ends with it.

    Raises:
        ValueError: It is not known.
    """
    found = _MEMBER.search(text)
    if found is None:
        raise ValueError("the key of a sealed value is not written plainly")
    return found[1], found[0]


def cut_at_sealed(payload: str) -> list[str]:
    """Cut the text of a payload, of any form, at its sealed values.

    Returns:
        What is before the first; then, for each, the keys that lead to it, joined by NUL; the id of its key, as 32 hexadecimal
        digits, several apart by ``+``; what was sealed, in base64; the JSON text of what stands for it once the subject is
        forgotten; and the text behind it, up to the next.

    Raises:
        ValueError: It holds something that only looks like a sealed value.
    """
    if _MARK not in payload:
        return [payload]
    paths = list(_paths(from_json(payload), ()))
    starts = [each.start() for each in _BEGINNING.finditer(payload)]
    if len(paths) != len(starts):
        raise ValueError("what marks a sealed value stands where there is none")
    pieces, at = [], 0
    for path, start in zip(paths, starts, strict=True):
        value, end = _decoder.raw_decode(payload, start)
        token = _TOKEN.fullmatch(value[SEALED])
        if token is None:
            raise ValueError(f"{'.'.join(path)} names no key")
        placeholder = json.dumps(value[_PLACEHOLDER], ensure_ascii=False) if _PLACEHOLDER in value else "null"
        pieces += [payload[at:start], "\0".join(path), token[1], token[2], placeholder]
        at = end
    return [*pieces, payload[at:]]


def replaced(payload: str, places: Sequence[tuple[int, int]], texts: Sequence[str]) -> str:
    """Put other texts in some places of one, which are given in their order: where each begins and ends."""
    pieces, at = [], 0
    for (start, end), text in zip(places, texts, strict=True):
        pieces += [payload[at:start], text]
        at = end
    return "".join([*pieces, payload[at:]])


def _paths(document: Any, path: Path) -> Iterator[Path]:
    if isinstance(document, dict):
        if isinstance(document.get(SEALED), str):
            yield path
        else:
            for key, each in document.items():
                if isinstance(each, dict | list):
                    yield from _paths(each, (*path, key))
    elif isinstance(document, list):
        for index, each in enumerate(document):
            if isinstance(each, dict | list):
                yield from _paths(each, (*path, str(index)))
