"""Compacting: the past of a closed stream goes to the archive, and its last state stays, as a snapshot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from sa_eventsource.aggregates import past_view
from sa_eventsource.application_errors import text_of
from sa_eventsource.archives.archiving import begin_taking_out, take_out
from sa_eventsource.archives.manifests import Archive, archive_of, file_of, manifest_of
from sa_eventsource.archives.missed_anonymisations import refuse_missed
from sa_eventsource.archives.unarchiving import fetch
from sa_eventsource.exceptions import SnapshotError
from sa_eventsource.mapping import check_async_session
from sa_eventsource.privacy import expire_aggregates
from sa_eventsource.store import last_snapshot, read_archived_streams, read_stream

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from sqlalchemy import Row, Table
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    from sa_eventsource.archives.moving import StreamToMove
    from sa_eventsource.store import StoredStream


def compact(  # noqa: PLR0913 - by keyword
    session: Session | scoped_session[Session],
    aggregate_class: type[Any],
    aggregate_id: Any,
    *,
    reason: str,
    directory: str | PathLike[str] | None = None,
    dry_run: bool = False,
) -> Archive:
    """Archive a closed stream and keep its last state, in the session's transaction, which is flushed first.

    All is as for :func:`archive`, except that the aggregate is still found: by its id, by ``select``, and by
    ``load_at_version()`` of the last version. It is loaded from a snapshot, and is closed. Where the snapshot is of no use any
    more, as code that made the state has changed, or someone was forgotten whose data is in it, the state is made of the archived
    events; of those in a file it is not: then ``StreamArchivedError`` says so. Compact it again, and there is a new one.

    A stream that is archived already gets its last state back. Its events stay where they are, and its manifest says what it said.

    Args:
        session: The session. The caller commits.
        aggregate_class: The aggregate's class.
        aggregate_id: Its id.
        reason: Why, for the manifest of a stream that is not archived yet. It is kept for good: write nothing personal.
        directory: Where to write a Parquet file; None for the table of archived events, or for a stream that is archived already.
        dry_run: Whether to change nothing, and only say what would be archived, or why it cannot be.

    Returns:
        The archive.

    Raises:
        AggregateNotFoundError: There is no such stream.
        ArchiveFileError: The file cannot be written; or it is missing, or was altered. It is an ``ArchiveError``.
        ArchiveError: As for :func:`archive`; or its events cannot be replayed; it is archived elsewhere than in *directory*; an
            anonymisation has missed its archived events; or they go to a file, or are in one, and its state cannot be kept.
        DeclarationError: The base has no archives.
        MissingExtraError: It goes to a file, or lies in one, and PyArrow is not installed.
        ReadModelChangedError: The rows of a read model were made under another declaration. Rebuild it first.
        TypeError: The reason is no text, or the directory no path.
        ValueError: The reason is empty.
    """
    stream, folder = begin_taking_out(
        "compact", session, aggregate_class, aggregate_id, reason=reason, directory=directory, dry_run=dry_run
    )
    manifest = manifest_of(stream)
    if manifest is not None:
        return _compact_archived(stream, manifest, folder, dry_run=dry_run)

    def last_state() -> dict[str, Any] | None:
        stored = read_stream(stream.connection, stream.definition, stream.aggregate_id, from_start=True)
        return _last_state(stream, stored, stream.tables.events, in_file=folder is not None)

    return take_out(stream, reason, folder, dry_run=dry_run, last_state=last_state)


async def async_compact(  # noqa: PLR0913 - by keyword
    session: AsyncSession,
    aggregate_class: type[Any],
    aggregate_id: Any,
    *,
    reason: str,
    directory: str | PathLike[str] | None = None,
    dry_run: bool = False,
) -> Archive:
    """Archive a closed stream and keep its last state. As :func:`compact`."""
    check_async_session("async_compact()", session, instead="compact")
    options: dict[str, Any] = {"reason": reason, "directory": directory, "dry_run": dry_run}
    return await session.run_sync(compact, aggregate_class, aggregate_id, **options)


def _compact_archived(stream: StreamToMove, manifest: Row[Any], folder: Path | None, *, dry_run: bool) -> Archive:
    file = file_of(manifest.place)
    if folder is not None and (file is None or file.parent != folder):
        raise stream.error(
            f"its events are archived in {manifest.place} already, and stay there. Leave out directory=, or bring it back first"
        )
    with stream.connection.begin_nested() as until_read:  # events of a file go to the table only to be read
        fetch(stream, manifest)
        refuse_missed(stream, manifest)
        found = list(read_archived_streams(stream.connection, stream.definition, [stream.aggregate_id]))
        snapshot = _last_state(stream, found[0] if found else None, stream.archived, in_file=file is not None)
        until_read.rollback()
    if not dry_run:
        stream.replace_snapshot(snapshot)
        archives = stream.archives
        which = archives.c.archive_id == manifest.archive_id
        stream.connection.execute(update(archives).where(which).values(is_compacted=True))
        expire_aggregates(stream.session, stream.tables, ())
    return replace(archive_of(manifest), is_compacted=True)


def _last_state(stream: StreamToMove, stored: StoredStream | None, events: Table, *, in_file: bool) -> dict[str, Any] | None:
    """Make the snapshot of the last state of a stream of all its events, or of none.

    Where these are at hand in a table, there may be no snapshot: the state can be made of them whenever it is asked for.

    Raises:
        ArchiveError: It cannot be made; or not be kept, and its events are in a file.
    """
    if stored is None:
        raise stream.error("it has no events. Run sa-eventsource verify")
    try:
        state = past_view(stream.definition.aggregate_class, stream.aggregate_id, stored.rows)
    except Exception as error:  # whatever an @applies method raises
        raise stream.error(f"its events cannot be replayed: {text_of(error)}") from error
    try:
        return last_snapshot(stream.connection, stream.definition, stored, state, events)
    except SnapshotError as error:
        if in_file:
            raise stream.error(f"its last state cannot be kept, and its events go to a file: {error.reason}") from error
        return None
