"""Keys as configurations have them: ``id:key``, the key as base64 of 32 bytes; several apart by white space or commas."""

from __future__ import annotations

import os
import re
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

_BYTES = 32
_LONGEST_ID = 255


def keys_in(text: str, place: str) -> dict[str, bytes]:
    """Read keys by their ids, in their order.

    Args:
        text: What is written.
        place: Where, for messages.

    Raises:
        ValueError: There is none, or one of them is none. What it looks like is not shown: it may be a key.
    """
    keys: dict[str, bytes] = {}
    for number, each in enumerate(filter(None, re.split(r"[\s,]+", text)), 1):
        name, colon, written = each.partition(":")
        try:
            key = b64decode(written, validate=True)
        except ValueError:
            key = b""
        if not colon or not 0 < len(name) <= _LONGEST_ID or len(key) != _BYTES or name in keys:
            raise ValueError(f"key {number} of {place} is none; write id:key, the key as base64 of {_BYTES} random bytes")
        keys[name] = key
    if not keys:
        raise ValueError(f"{place} has none")
    return keys


def text_of_variable(name: str) -> str:
    """Read an environment variable; nothing where it is not set."""
    return os.environ.get(name, "")


def text_of_file(path: str | PathLike[str]) -> str:
    """Read a file.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"the file {os.fspath(path)} cannot be read: {error.strerror}") from error
