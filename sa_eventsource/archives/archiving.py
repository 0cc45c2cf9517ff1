"""Archiving: a closed stream's events go to another table, and a marker stays in place of the last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, Uuid, delete, insert, literal, select, update

from sa_eventsource.archives.archive_files import ArchiveFile, directory_path
from sa_eventsource.archives.content import content_hash
from sa_eventsource.archives.manifests import Archive, archive_of
from sa_eventsource.archives.moving import StreamToMove
from sa_eventsource.archives.refusals import refuse_older_views, refuse_unfinished
from sa_eventsource.arguments import check_written
from sa_eventsource.checkpoints import cluster_identifier
from sa_eventsource.clock import now
from sa_eventsource.counting import counted
from sa_eventsource.events import ARCHIVED_TYPE, CLOSED_TYPE
from sa_eventsource.exceptions import AggregateNotFoundError, ArchiveFileError
from sa_eventsource.mapping import check_async_session, check_session
from sa_eventsource.privacy import context_of
from sa_eventsource.store import refuse_archived
from sa_eventsource.time_ordered_ids import uuid7
from sa_eventsource.transfer import load_parquet

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session


def archive(  # noqa: PLR0913 - by keyword
    session: Session | scoped_session[Session],
    aggregate_class: type[Any],
    aggregate_id: Any,
    *,
    reason: str,
    directory: str | PathLike[str] | None = None,
    dry_run: bool = False,
) -> Archive:
    """Take a closed stream out of the log, in the session's transaction, which is flushed first.

    Its events go to the table of archived events as they are, or to a Parquet file, with a manifest: how many they are, where they
    stood, their hash, who, when and why. A marker stays in the log, so that nobody begins the stream again. From the commit on, the
    aggregate is not found by queries and ``StreamArchivedError`` says where it is; queries of events, exports and rebuilds leave it
    out. Rows of read models that its events belong to are rebuilt without them in the same transaction.

    A file is on the disk, and was read back, before anything goes from the log. If the transaction is rolled back then, or its
    process is killed, the file stays; to archive the stream again replaces it, and :func:`unneeded_archive_files` lists it.

    Give it a transaction of its own: followers of the log and writers of events wait for it.

    Args:
        session: The session. The caller commits.
        aggregate_class: The aggregate's class.
        aggregate_id: Its id.
        reason: Why, for the manifest. It is kept for good: write nothing personal.
        directory: Where to write a Parquet file, named after the hash of the events; None for the table of archived events. It must
            be there, be this log's own, and stay where it is: the manifest names the file by its absolute path.
        dry_run: Whether to change nothing, and only say what would be archived, or why it cannot be.

    Returns:
        The archive.

    Raises:
        AggregateNotFoundError: There is no such stream.
        ArchiveFileError: The file cannot be written. It is an ``ArchiveError``.
        ArchiveError: The stream is open, or was closed in this transaction; it is a process whose scheduled commands wait; a
            follower has yet to take its events, they are parked, or are not in the Merkle tree yet; an anonymisation is not
            finished; or a transaction that began before the stream was closed still runs; or it is to go to a file, and the log has
            proofs, which need each event in the database. The reason says what to do.
        DeclarationError: The base has no archives.
        MissingExtraError: It is to go to a file, and PyArrow is not installed.
        ReadModelChangedError: The rows of a read model were made under another declaration. Rebuild it first.
        StreamArchivedError: It is archived.
        TypeError: The reason is no text, or the directory no path.
        ValueError: The reason is empty.
    """
    stream, folder = begin_taking_out(
        "archive", session, aggregate_class, aggregate_id, reason=reason, directory=directory, dry_run=dry_run
    )
    return take_out(stream, reason, folder, dry_run=dry_run)


async def async_archive(  # noqa: PLR0913 - by keyword
    session: AsyncSession,
    aggregate_class: type[Any],
    aggregate_id: Any,
    *,
    reason: str,
    directory: str | PathLike[str] | None = None,
    dry_run: bool = False,
) -> Archive:
    """Take a closed stream out of the log. As :func:`archive`."""
    check_async_session("async_archive()", session, instead="archive")
    options: dict[str, Any] = {"reason": reason, "directory": directory, "dry_run": dry_run}
    return await session.run_sync(archive, aggregate_class, aggregate_id, **options)


def begin_taking_out(  # noqa: PLR0913 - what archive() and compact() were called with
    function: str,
    session: Session | scoped_session[Session],
    aggregate_class: type[Any],
    aggregate_id: Any,
    *,
    reason: str,
    directory: str | PathLike[str] | None,
    dry_run: bool,
) -> tuple[StreamToMove, Path | None]:
    """Check the arguments of *function*, and find the stream and the folder; unless it is a dry run, lock the stream.

    Raises:
        ArchiveError: It cannot be done in this transaction, by this role or with proofs; or there is no such folder.
        DeclarationError: The base has no archives.
        MissingExtraError: It is to go to a file, and PyArrow is not installed.
        TypeError: The reason is no text, or the directory no path.
        ValueError: The reason is empty.
    """
    check_session(f"{function}()", session, instead=f"async_{function}")
    check_written(function, "reason", reason)
    folder = None if directory is None else directory_path(function, directory)
    stream = StreamToMove.prepared(session, aggregate_class, aggregate_id, f"{function}()")
    if folder is not None:
        _check_folder(stream, folder)
    if not dry_run:
        stream.lock()
    return stream, folder


def take_out(
    stream: StreamToMove,
    reason: str,
    folder: Path | None,
    *,
    dry_run: bool,
    last_state: Callable[[], dict[str, Any] | None] | None = None,
) -> Archive:
    """Take the events of a stream, which is locked, out of the log.

    Args:
        stream: The stream.
        reason: Why.
        folder: Where to write a file; None for the table of archived events.
        dry_run: Whether to change nothing.
        last_state: Makes the snapshot that stays, as ``StreamToMove.replace_snapshot`` takes it, when all is known to be well. None
            where the last state goes, too.
    """
    if not dry_run:
        # Nobody is in the middle of an INSERT that has seen the events, which then would find their places free.
        stream.database.lock_log(stream.connection, stream.tables.events, to_change=True)
    last = _last_event(stream)
    refuse_unfinished(stream, last)
    refuse_older_views(stream, last)
    content = content_hash(stream.connection, stream.tables.events, stream.definition.aggregate_type, stream.aggregate_id)
    if content.events != last.version:
        raise stream.error(f"it is at version {last.version} and has {counted(content.events, 'event')}. Run sa-eventsource verify")
    snapshot = None if last_state is None else last_state()
    context, archive_id = context_of(stream.session), uuid7()
    file = (
        None if folder is None else ArchiveFile.named(folder, content.sha256, stream.definition.aggregate_type, stream.aggregate_id)
    )
    place = stream.archived.fullname if file is None else str(file.path)
    values: dict[str, Any] = {
        "archive_id": archive_id,
        "aggregate_type": stream.definition.aggregate_type,
        "aggregate_id": stream.aggregate_id,
        "events": content.events,
        "first_position": content.first_position,
        "last_position": content.last_position,
        "sha256": content.sha256,
        "place": place,
        "reason": reason,
        "metadata": dict(context.metadata) or None,
        "archived_at": now(),
        "is_compacted": last_state is not None,
    }
    if dry_run:
        return Archive(**{**values, "sha256": content.sha256.hex(), "metadata": context.metadata})
    key_ids: frozenset[str] = frozenset()
    if file is not None:
        key_ids = file.write(stream.connection, stream.tables.events, stream.of_stream(stream.tables.events), content)
    cluster = None if stream.database.has_one_writer else stream.connection.scalar(select(cluster_identifier()))
    stream.note_rows()
    ids = {"correlation_id": context.correlation_id, "causation_id": context.causation_id, "cluster": cluster}
    ids["sealed_with"] = sorted(key_ids) or None
    stream.connection.execute(insert(stream.archives).values({**values, **ids}))
    marker = {"archive_id": str(archive_id), "place": place, "reason": last.event_data.get("reason", "")}
    kept = stream.copy(stream.tables.events, stream.archived) if file is None else _keep_ids(stream, archive_id)
    _leave_marker(stream, last, marker, kept)
    stream.replace_snapshot(snapshot)
    to_rebuild = stream.rebuild_rows()
    row = stream.connection.execute(select(stream.archives).where(stream.archives.c.archive_id == archive_id)).one()
    return archive_of(row, to_rebuild)


def _check_folder(stream: StreamToMove, folder: Path) -> None:
    """Find, before anybody has to wait, what would not work in the end."""
    load_parquet()
    if stream.tables.merkle_tree is not None:
        raise stream.error(
            "the log has proofs, and verify() and prove() need each event in the database. Leave out directory=, for the table "
            f"{stream.archived.fullname}"
        )
    if not folder.is_dir():
        reason = "is not there. Create it first"
        raise ArchiveFileError(stream.definition.aggregate_type, stream.aggregate_id, folder, reason, what="the directory")


def _last_event(stream: StreamToMove) -> Any:
    events = stream.tables.events
    found = select(events.c.version, events.c.event_type, events.c.event_data, events.c.position, events.c.transaction_id)
    row = stream.connection.execute(found.where(*stream.of_stream(events)).order_by(events.c.version.desc()).limit(1)).one_or_none()
    aggregate_type = stream.definition.aggregate_type
    if row is None:
        raise AggregateNotFoundError(aggregate_type, stream.aggregate_id)
    if row.event_type == ARCHIVED_TYPE:
        refuse_archived(stream.connection, events, aggregate_type, stream.aggregate_id)
    if row.event_type != CLOSED_TYPE:
        raise stream.error("it is open, and only a closed stream can be archived. Call close_stream() first")
    if row.version == 1:
        raise stream.error("it has no event but the one that closed it, and a marker would take as much room")
    return row


def _keep_ids(stream: StreamToMove, archive_id: UUID) -> int:
    """Keep the ids of events that lie in a file, so that no other event gets one. Return how many there are."""
    events = stream.tables.events
    rows = select(events.c.event_id, literal(archive_id, Uuid), events.c.version).where(*stream.of_stream(events))
    statement = insert(stream.ids).from_select(["event_id", "archive_id", "version"], rows)
    return stream.connection.execute(statement.execution_options(preserve_rowcount=True)).rowcount


def _leave_marker(stream: StreamToMove, last: Row[Any], marker: dict[str, str], kept: int) -> None:
    """Delete all events but the last, and make that one the marker: it keeps its id, place and times."""
    events = stream.tables.events
    is_last = events.c.version == last.version
    text = literal(json.dumps(marker, ensure_ascii=False), Text)
    changed = {"event_type": ARCHIVED_TYPE, "event_version": 1, "event_data": stream.database.document(text)}
    with stream.database.letting_events_change(stream.connection, events):
        deleted = stream.connection.execute(delete(events).where(*stream.of_stream(events), ~is_last)).rowcount
        marked = stream.connection.execute(update(events).where(*stream.of_stream(events), is_last).values(changed)).rowcount
    stream.check_moved(last.version, kept, deleted + marked)
