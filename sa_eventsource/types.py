"""Small types that every layer shares: JSON values, time axes, ids that sort by time."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence  # noqa: TC003 - Pydantic resolves the alias
from typing import Literal, TypeAlias
from uuid import UUID

from typing_extensions import TypeAliasType

JsonValue = TypeAliasType("JsonValue", "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None")
"""A value that JSON can hold. It may be the type of an event's field; lists and dicts come back, tuples are refused."""

TimeAxis: TypeAlias = Literal["occurred", "recorded"]
"""One of an event's two times: when it happened (as it was then), or when it was written to the log (as we knew it then)."""


def uuid7() -> UUID:
    """Make a UUID of version 7, so that index entries made one after the other lie side by side.

    The first 48 bits are Unix milliseconds, the next 12 the fraction of that millisecond (RFC 9562, section 6.2, method 3), the
    rest is random. Ids of one process sort by the time they were made to about a quarter of a microsecond; no order within that.
    """
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = (rest << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=(milliseconds << 80) | (0x7000 | fraction) << 64 | (0b10 << 62) | random)
