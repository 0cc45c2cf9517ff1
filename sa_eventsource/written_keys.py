"""Keys as configurations have them: ``id:key``, the key as base64 of 32 bytes; several apart by white space or commas."""

from __future__ import annotations

import os
import re
from base64 import b64decode
from dataclasses import dataclass
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
            form = f"write id:key, with an id of its own, and the key as base64 of {_BYTES} random bytes"
            raise ValueError(f"key {number} of {place} cannot be used; {form}")
        keys[name] = key
    if not keys:
        raise ValueError(f"{place} has none")
    return keys


@dataclass(frozen=True)
class KeysInVariable:
    """Keys in an environment variable."""

    variable: str

    def __str__(self) -> str:
        """Name it in messages."""
        return f"the environment variable {self.variable}"

    def _text(self) -> str:
        return os.environ.get(self.variable, "")


@dataclass(frozen=True)
class KeysInFile:
    """Keys in a file. One that cannot be read is a ``ValueError``."""

    path: str | PathLike[str]

    def __str__(self) -> str:
        """Name it in messages."""
        return f"the file {os.fspath(self.path)}"

    def _text(self) -> str:
        try:
            return Path(self.path).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{self} cannot be read: {error.strerror}") from error
