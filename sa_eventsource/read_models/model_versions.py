"""Versions of a read model: each has a name, and perhaps a table, of its own."""

from __future__ import annotations

from typing import Any

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import MAX_NAME_LENGTH

_ROOM_FOR_VERSION_AND_SHARD = 25


def version_of(cls: type[Any]) -> int:
    """Read the version that a model's class declares.

    Raises:
        DeclarationError: It is no number from 1 on.
    """
    version: Any = cls.__version__
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DeclarationError(f"{cls.__name__}.__version__ is {version!r}; it must be a number from 1 on")
    return version


def versioned_name(where: str, name: str, version: int) -> str:
    """The name that rows and checkpoint of a version are kept under.

    Raises:
        DeclarationError: The name is impossible.
    """
    longest = MAX_NAME_LENGTH - _ROOM_FOR_VERSION_AND_SHARD
    if not 0 < len(name) <= longest or set(name) & set("\x00#@"):
        raise DeclarationError(f"{where}.__projection_name__ must have 1 to {longest} characters, and none of #, @ and NUL")
    return name if version == 1 else f"{name}@{version}"


def versioned_table(name: str, version: int) -> str:
    """The name of a version's own table."""
    return name if version == 1 else f"{name}_v{version}"
