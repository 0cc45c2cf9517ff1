"""Exporting and importing a log in tests."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from sa_eventsource import ImportedLog, LogImportError, event_record, export_events, import_events
from tests.orders import Base
from tests.session.helpers import stored_events

EVENTS = event_record(Base).__table__


def exported(engine: Engine) -> list[str]:
    """Export a log."""
    with engine.connect() as connection:
        return list(export_events(connection, EVENTS))


def imported(engine: Engine, lines: list[str], *, batch_size: int = 1000) -> ImportedLog:
    """Import into a log, in a transaction of its own."""
    with engine.begin() as connection:
        return import_events(connection, EVENTS, lines, batch_size=batch_size)


def refused(engine: Engine, *lines: str, batch_size: int = 1000) -> tuple[int, str, str]:
    """Import what is refused: line, field and reason of the error."""
    before = stored_events(engine)
    with pytest.raises(LogImportError) as caught:
        imported(engine, list(lines), batch_size=batch_size)
    assert stored_events(engine) == before
    return caught.value.line, caught.value.field, caught.value.reason
