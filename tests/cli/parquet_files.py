"""Parquet files of a log in tests: exported, and made by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import Engine

from sa_eventsource import ImportedLog, LogImportError
from sa_eventsource.transfer.parquet import export_parquet, import_parquet
from tests.cli.exported_lines import HEADER, members
from tests.cli.logs import EVENTS
from tests.session.helpers import stored_events

TEXT, NUMBER, MOMENT = pa.string(), pa.int64(), pa.timestamp("us", tz="UTC")
TYPES = {
    "position": NUMBER,
    "event_id": TEXT,
    "aggregate_type": TEXT,
    "aggregate_id": TEXT,
    "version": NUMBER,
    "event_type": TEXT,
    "event_version": NUMBER,
    "event_data": TEXT,
    "metadata": TEXT,
    "occurred_at": MOMENT,
    "correlation_id": TEXT,
    "causation_id": TEXT,
    "recorded_at": MOMENT,
}
KEY = "sa_eventsource.events"


def row(number: int, **changes: Any) -> dict[str, Any]:
    """Make the values of the *number*-th event of one stream, by column."""
    values = {name: _value(name, text) for name, text in members(number).items()}
    return values | changes


def _value(name: str, text: str) -> Any:
    if text == "null" or name in ("event_data", "metadata"):
        return None if text == "null" else text
    return datetime.fromisoformat(json.loads(text)) if TYPES[name] == MOMENT else json.loads(text)


def made(
    *rows: Mapping[str, Any], types: Mapping[str, Any] = TYPES, header: str | bytes | None = HEADER, **options: Any
) -> io.BytesIO:
    """Write rows as a Parquet file."""
    schema = pa.schema(list(types.items()), metadata=None if header is None else {KEY: header})
    file = io.BytesIO()
    table = pa.table([pa.array([each.get(name) for each in rows], kind) for name, kind in types.items()], schema=schema)
    parquet.write_table(table, file, **options)
    file.seek(0)
    return file


def exported_file(engine: Engine, **options: Any) -> io.BytesIO:
    """Export a log."""
    file = io.BytesIO()
    with engine.connect() as connection:
        export_parquet(connection, EVENTS, file, **options)
    file.seek(0)
    return file


def imported_file(engine: Engine, file: io.BytesIO, *, batch_size: int = 1000) -> ImportedLog:
    """Import into a log, in a transaction of its own."""
    with engine.begin() as connection:
        return import_parquet(connection, EVENTS, file, batch_size=batch_size)


def refused_file(engine: Engine, file: io.BytesIO, *, batch_size: int = 1000) -> tuple[int, str, str]:
    """Import what is refused: row, field and reason of the error."""
    before = stored_events(engine)
    with pytest.raises(LogImportError) as caught:
        imported_file(engine, file, batch_size=batch_size)
    assert stored_events(engine) == before
    assert caught.value.unit == "row"
    return caught.value.line, caught.value.field, caught.value.reason
