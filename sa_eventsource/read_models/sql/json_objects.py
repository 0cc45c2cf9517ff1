"""JSON objects put together in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import JSONB

from sa_eventsource.mapping import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_ARGUMENTS = 50


def json_object(entries: Mapping[str, Any]) -> Any:
    """Build a JSON object; a function takes at most a hundred arguments."""
    names = list(entries)
    parts = [
        func.jsonb_build_object(
            *(each for name in names[start : start + _MOST_ARGUMENTS] for each in (quoted(name), entries[name])), type_=JSONB()
        )
        for start in range(0, max(len(names), 1), _MOST_ARGUMENTS)
    ]
    whole: Any = parts[0]
    for part in parts[1:]:
        whole = whole.op("||", return_type=JSONB())(part)
    return whole
