"""Exporting and importing a log in tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest
from sqlalchemy import Connection, Engine

from sa_eventsource import ImportedLog, LogImportError, event_record, export_events, import_events
from tests.cli.exported_lines import exactly
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


Outcome: TypeAlias = "tuple[object, list[object]]"
"""What was done or refused, and what the log has then."""


def without_and_by_copy(engine: Engine, imports: Callable[[Connection], ImportedLog]) -> tuple[Outcome, Outcome]:
    """What comes of an import, which is undone, where COPY cannot be used, and where it can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sa_eventsource.transfer.import_target.can_copy", lambda *_: False)
        meant = _outcome(engine, imports)
    return meant, _outcome(engine, imports)


def _outcome(engine: Engine, imports: Callable[[Connection], ImportedLog]) -> Outcome:
    with engine.connect() as connection:
        try:
            done: object = imports(connection)
            log = [exactly(each) for each in list(export_events(connection, EVENTS))[1:]]
        except LogImportError as error:
            done, log = (error.line, error.field, error.reason), []
        finally:
            connection.rollback()
    return done, log
