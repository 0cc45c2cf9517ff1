"""Are archives whole: is each archived stream what its manifest says, and does its marker stand in the log?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, select

from sa_eventsource.aggregates import definition_of
from sa_eventsource.archives import ArchiveFile, content_hash, file_of
from sa_eventsource.counting import counted
from sa_eventsource.events import ARCHIVED_TYPE
from sa_eventsource.exceptions import ArchiveFileError, MissingExtraError
from sa_eventsource.verification.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection, Row

    from sa_eventsource.mapping import EventSourceTables


def check_archives(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find archives that were altered or are missing, markers without one, and archives without a marker."""
    archives, archived, ids, events = tables.archives, tables.archived_events, tables.archived_event_ids, tables.events
    if archives is None or archived is None or ids is None:
        return
    filed = {row[0]: row[1] for row in connection.execute(select(ids.c.archive_id, func.count()).group_by(ids.c.archive_id))}
    markers: dict[tuple[str, str], str] = {}
    found = select(events.c.aggregate_type, events.c.aggregate_id, events.c.event_data)
    for row in connection.execute(found.where(events.c.event_type == ARCHIVED_TYPE)):
        markers[row.aggregate_type, row.aggregate_id] = str(row.event_data.get("archive_id"))
    stream = archived.c.aggregate_type, archived.c.aggregate_id
    kept = {(row[0], row[1]) for row in connection.execute(select(*stream).group_by(*stream))}
    present = select(archives).where(archives.c.returned_at.is_(None)).order_by(archives.c.archived_at)
    for manifest in connection.execute(present).all():
        key = manifest.aggregate_type, manifest.aggregate_id
        if markers.pop(key, None) != str(manifest.archive_id):
            yield _finding(key, f"no marker of archive {manifest.archive_id} is in the log: its events may be there twice, or lost")
        if file_of(manifest.place) is not None:
            yield from _check_file(connection, tables, manifest, filed.pop(manifest.archive_id, 0))
            continue
        kept.discard(key)
        content = content_hash(connection, archived, *key)
        if not content.is_of(manifest):
            yield _finding(
                key,
                f"its events in {manifest.place} are not what was archived ({counted(content.events, 'event')} of "
                f"{manifest.events}, or others). Restore them from a backup",
            )
    for key, archive_id in sorted(markers.items()):
        yield _finding(key, f"it is marked as archived, and there is no manifest of archive {archive_id}. Restore it from a backup")
    for key in sorted(kept):
        yield _finding(key, f"events of it are in {archived.name}, and no manifest says so")
    for archive_id, number in filed.items():
        what = f"{ids.name} has {counted(number, 'id')} of it, and it is no archive in a file. Delete them"
        yield Finding("archives", f"archive {archive_id}", what)


def _check_file(connection: Connection, tables: EventSourceTables, manifest: Row[Any], ids: int) -> Generator[Finding, None, None]:
    """Find a file that is missing or altered, or cannot be read here; and ids, or a last state, that are not kept."""
    key = manifest.aggregate_type, manifest.aggregate_id
    if manifest.is_compacted and not _has_state(connection, tables, manifest):
        yield _finding(key, "it is compacted, and its last state cannot be loaded. Compact it again", is_warning=True)
    if ids != manifest.events:
        yield _finding(key, f"of the ids of its events ({manifest.events}), {ids} are kept: others may be given again")
    fault = fault_of_file(connection, manifest)
    if fault is not None:
        yield _finding(key, fault)


def fault_of_file(connection: Connection, manifest: Row[Any]) -> str | None:
    """Say why the file of an archive is not what was archived, or cannot be read here; None if all is well."""
    file = ArchiveFile(Path(manifest.place), manifest.aggregate_type, manifest.aggregate_id)
    try:
        is_whole = file.content(connection).is_of(manifest)
    except ArchiveFileError as error:
        return error.reason
    except MissingExtraError as error:
        return f"its file {file.path} cannot be checked here. {error}"
    return None if is_whole else f"its file {file.path} has other events than were archived. Restore it from a backup"


def number_of_archived(connection: Connection, tables: EventSourceTables) -> int:
    """Count the streams that are archived."""
    if tables.archives is None:
        return 0
    statement = select(func.count()).select_from(tables.archives).where(tables.archives.c.returned_at.is_(None))
    return connection.execute(statement).scalar_one()


def _has_state(connection: Connection, tables: EventSourceTables, manifest: Row[Any]) -> bool:
    """Check whether a compacted stream has a snapshot that the code of this process uses; that, as far as its class is known."""
    events, snapshots = tables.events, tables.snapshots
    aggregate_class = tables.aggregate_classes.get(manifest.aggregate_type)
    if aggregate_class is None:
        return True
    definition = definition_of(aggregate_class)
    if not definition.takes_snapshots:
        return False
    conditions = (
        snapshots.c.aggregate_type == manifest.aggregate_type,
        snapshots.c.aggregate_id == manifest.aggregate_id,
        snapshots.c.state_fingerprint == definition.fingerprint,
        events.c.aggregate_type == snapshots.c.aggregate_type,
        events.c.aggregate_id == snapshots.c.aggregate_id,
        events.c.event_id == snapshots.c.event_id,
        events.c.version == snapshots.c.version,
    )
    return bool(connection.scalar(select(exists().where(*conditions))))


def _finding(key: tuple[str, str], message: str, *, is_warning: bool = False) -> Finding:
    return Finding("archives", f"{key[0]} {key[1]!r}", message, is_warning=is_warning)
