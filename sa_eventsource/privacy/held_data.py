"""Everything that is stored about someone: the right of access."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python
from sqlalchemy import Text, cast, or_, select

from sa_eventsource.events import sealed_names
from sa_eventsource.mapping import check_async_session, check_session, present_session
from sa_eventsource.privacy.of_base import checked_subject, personal_data_of_base
from sa_eventsource.privacy.opening import CutPayloads
from sa_eventsource.privacy.subject_keys import keys_by_id
from sa_eventsource.store import Reading, autoflush, recorded_events, select_events, stored_payloads, whole_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row, Table
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    from sa_eventsource.read_models import ReadModelDefinition
    from sa_eventsource.types import JsonValue


def personal_data(session: Session | scoped_session[Session], subject: object, *, base: Any = None) -> dict[str, JsonValue]:
    """List everything personal that is stored about someone, as what ``json.dumps`` takes, in the session's transaction.

    It looks through the events that have personal fields, those of archived streams too. What belongs to others in the same events
    is left out; a row of a read model is given as a whole. Archives in files are named, and not read: ``unarchive()`` brings such a
    stream back, to list what it has.

    Args:
        session: The session. It is flushed first, as by a query.
        subject: Whose: as for :func:`forget`.
        base: The declarative base of the log; None for the only one that has master keys.

    Returns:
        ``subject``, ``is_forgotten``, ``events`` (where each stands, and ``data``: the values by their paths, such as
        ``lines.0.note``), and ``read_models`` (the rows of those in clear, by the name of the model); where the base has archives,
        ``archived_files`` too, the files that hold something of theirs: type and id of the stream, and the path. Of someone who is
        forgotten, nothing is held.

    Raises:
        DeclarationError: The base has no master keys, or none is given and several have.
        MasterKeyError: A key cannot be unwrapped.
        SealedValueError: A value is not the one that was sealed in its place.
        ValueError: The subject is no text of 1 to 255 characters.
    """
    check_session("personal_data()", session, instead="async_personal_data")
    whom = checked_subject("personal_data", subject)
    found = personal_data_of_base("personal_data", base)
    asking = present_session(session)
    autoflush(asking)
    connection = asking.connection(bind_arguments=found.tables.bind_arguments)
    events = found.tables.events
    keys = connection.execute(
        select(found.subject_keys.c.key_id, found.subject_keys.c.forgotten_at).where(found.subject_keys.c.subject == whom)
    ).all()
    key_ids = [row.key_id.hex for row in keys if row.forgotten_at is None]
    rows: Sequence[Row[Any]] = []
    if key_ids:
        log = whole_log(found.tables)
        data = cast(log.c.event_data, Text)
        theirs = log.c.event_type.in_(sorted(sealed_names())), or_(*(data.contains(each) for each in key_ids))
        rows = connection.execute(select_events(log).where(*theirs).order_by(log.c.position)).all()
    opening = keys_by_id(connection, events, key_ids, locked=False) if rows else {}
    values = CutPayloads(stored_payloads(rows)).values_of(opening)
    found_values = [(row, each) for row, each in zip(rows, values, strict=True) if each]  # others only mention a key
    rows = [row for row, _ in found_values]
    models = [each for _, each in sorted(found.tables.read_models.items()) if each.takes_personal_data == "clear"]
    held: dict[str, JsonValue] = {
        "subject": whom,
        "is_forgotten": bool(keys) and not key_ids,
        "events": [_event(row, each) for row, each in found_values],
        "read_models": {each.name: _rows(connection, each, rows) for each in models},
    }
    if found.tables.archives is not None:
        held["archived_files"] = _files(connection, found.tables.archives, key_ids)
    return held


async def async_personal_data(session: AsyncSession, subject: object, *, base: Any = None) -> dict[str, JsonValue]:
    """List everything personal that is stored about someone. As :func:`personal_data`."""
    check_async_session("async_personal_data()", session, instead="personal_data")
    return await session.run_sync(personal_data, subject, base=base)


def _files(connection: Connection, archives: Table, key_ids: Sequence[str]) -> list[JsonValue]:
    """Name the files of archived streams in which something is sealed with some keys."""
    if not key_ids:
        return []
    sealed = cast(archives.c.sealed_with, Text)
    theirs = archives.c.returned_at.is_(None), or_(*(sealed.contains(each) for each in key_ids))
    names = ("aggregate_type", "aggregate_id", "place")
    rows = connection.execute(select(*(archives.c[name] for name in names)).where(*theirs).order_by(archives.c.archived_at))
    return [dict(row) for row in rows.mappings()]


def _event(row: Row[Any], values: dict[str, str]) -> dict[str, JsonValue]:
    return {
        "event_id": str(row.event_id),
        "aggregate_type": row.aggregate_type,
        "aggregate_id": row.aggregate_id,
        "version": row.version,
        "event_type": row.event_type,
        "occurred_at": row.occurred_at.isoformat(),
        "data": {path: json.loads(text) for path, text in values.items()},
    }


def _rows(connection: Connection, definition: ReadModelDefinition, rows: Sequence[Row[Any]]) -> list[JsonValue]:
    """Give the rows that some events belong to."""
    taken = [row for row in rows if row.event_type in definition.stored_types and definition.takes_from(row.aggregate_type)]
    recorded = recorded_events(connection, definition.tables.events, taken, Reading.MASKED)
    keys = dict.fromkeys(key for each in recorded if definition.changes_row(each) and (key := definition.key_of(each)) is not None)
    columns = [getattr(definition.model, name).label(name) for name in definition.row_names]
    found: list[JsonValue] = []
    for key in keys:
        is_row = [getattr(definition.model, part.name) == value for part, value in zip(definition.key, key, strict=True)]
        result = connection.execute(select(*columns).where(*is_row)).mappings()
        found += [to_jsonable_python(dict(row)) for row in result]
    return found
