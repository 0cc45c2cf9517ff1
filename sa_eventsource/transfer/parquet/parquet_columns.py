"""The columns of a Parquet file of events: those of an export, each with a plain type that any reader of such files knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlalchemy import DateTime, Integer

from sa_eventsource.mapping import EVENT_COLUMNS, EXPORTED, KINDS, UtcDateTime

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

HEADER = b"sa_eventsource.events"
"""Under this key, the file's metadata hold the header, as the first line of an export in JSON does."""


def _type_of(stored: TypeEngine[Any]) -> Any:
    if isinstance(stored, Integer):
        return pa.int64()
    if isinstance(stored, UtcDateTime | DateTime):
        return pa.timestamp("us", tz="UTC")
    return pa.string()  # names, UUIDs, and documents as their JSON text


_NULLABLE = {column.name for column in EVENT_COLUMNS if column.is_nullable}

SCHEMA = pa.schema([pa.field(name, _type_of(KINDS[name].type), nullable=name in _NULLABLE) for name in EXPORTED])
"""The columns in the order of an export."""
