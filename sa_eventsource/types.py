"""The type of what JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - Pydantic resolves the alias

from typing_extensions import TypeAliasType

JsonValue = TypeAliasType("JsonValue", "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None")
"""A value that JSON can hold. It may be the type of an event's field; lists and dicts come back, tuples are refused."""
