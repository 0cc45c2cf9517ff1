"""Bringing an archived stream back: its events are in the log again as they were, each value of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.exc import IntegrityError

from sa_eventsource.archives.archive_files import ArchiveFile
from sa_eventsource.archives.content import content_hash
from sa_eventsource.archives.manifests import Archive, archive_of, file_of, manifest_of
from sa_eventsource.archives.missed_anonymisations import refuse_missed
from sa_eventsource.archives.moving import StreamToMove
from sa_eventsource.arguments import check_written
from sa_eventsource.checkpoints import cluster_identifier
from sa_eventsource.clock import now
from sa_eventsource.counting import counted
from sa_eventsource.events import ARCHIVED_TYPE
from sa_eventsource.exceptions import ReadModelError
from sa_eventsource.mapping import LOWEST_TRANSACTION_ID, check_async_session, check_session
from sa_eventsource.privacy import context_of
from sa_eventsource.store import message_of

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session


def unarchive(  # noqa: PLR0913 - by keyword
    session: Session | scoped_session[Session],
    aggregate_class: type[Any],
    aggregate_id: Any,
    *,
    reason: str,
    dry_run: bool = False,
    despite_anonymisations: bool = False,
) -> Archive:
    """Bring an archived stream back into the log, in the session's transaction, which is flushed first.

    The events have the ids, positions, times and transaction ids that they had; these last only where the log has stayed in its
    cluster. So no follower takes them twice. Their hash is compared with the manifest before. The stream is closed, as it was; rows
    of read models that its events belong to are rebuilt with them. The manifest stays, and says who brought them back and why.

    What was archived as a file is read from it, and the file is left as it is: delete it when the transaction has been committed.

    A subscription or process manager that began to follow the log while they were archived never gets them.

    Args:
        session: The session. The caller commits.
        aggregate_class: The aggregate's class.
        aggregate_id: Its id.
        reason: Why, for the manifest. It is kept for good: write nothing personal.
        dry_run: Whether to change nothing, and only say what would be brought back, or why it cannot be.
        despite_anonymisations: Whether to bring it back though an anonymisation has missed its events. They have then to be
            anonymised again, under another name.

    Returns:
        The archive.

    Raises:
        ArchiveFileError: Its file is missing, or was altered. It is an ``ArchiveError``.
        ArchiveError: The stream is not archived, its events were altered, or an anonymisation has missed them. Or a follower is
            processing a backlog, or something has taken the place of an event or of a row of a read model. The reason says what
            to do.
        DeclarationError: The base has no archives.
        MissingExtraError: It is in a file, and PyArrow is not installed.
        ReadModelChangedError: The rows of a read model were made under another declaration. Rebuild it first.
        TypeError: The reason is no text.
        ValueError: The reason is empty.
    """
    check_session("unarchive()", session, instead="async_unarchive")
    check_written("unarchive", "reason", reason)
    stream = StreamToMove.prepared(session, aggregate_class, aggregate_id, "unarchive()")
    if not dry_run:
        stream.lock()
    manifest = manifest_of(stream)
    if manifest is None:
        raise stream.error("it is not archived")
    with stream.connection.begin_nested() as until_refused:
        fetch(stream, manifest)
        _refuse_within_backlog(stream)
        if not despite_anonymisations:
            refuse_missed(stream, manifest)
        if dry_run:
            until_refused.rollback()
            return archive_of(manifest)
        return _bring_back(stream, manifest, reason)


def _bring_back(stream: StreamToMove, manifest: Row[Any], reason: str) -> Archive:
    context = context_of(stream.session)
    returned = {"return_reason": reason, "return_metadata": dict(context.metadata) or None, "returned_at": now()}
    which = stream.archives.c.archive_id == manifest.archive_id
    try:
        with stream.connection.begin_nested():
            _move(stream, manifest)
            stream.replace_snapshot(None)  # of a closed stream, no load would use it
            stream.connection.execute(update(stream.archives).where(which).values(returned))
            stream.note_rows()
            to_rebuild = stream.rebuild_rows()
    except (IntegrityError, ReadModelError) as error:
        raise stream.error(_in_the_way(stream, error)) from error
    return archive_of(stream.connection.execute(select(stream.archives).where(which)).one(), to_rebuild)


async def async_unarchive(  # noqa: PLR0913 - by keyword
    session: AsyncSession,
    aggregate_class: type[Any],
    aggregate_id: Any,
    *,
    reason: str,
    dry_run: bool = False,
    despite_anonymisations: bool = False,
) -> Archive:
    """Bring an archived stream back into the log. As :func:`unarchive`."""
    check_async_session("async_unarchive()", session, instead="unarchive")
    options: dict[str, Any] = {"reason": reason, "dry_run": dry_run, "despite_anonymisations": despite_anonymisations}
    return await session.run_sync(unarchive, aggregate_class, aggregate_id, **options)


def fetch(stream: StreamToMove, manifest: Row[Any]) -> None:
    """Put the events of a file into the table of archived events, to go on as if they had been there; and compare their hash.

    Raises:
        ArchiveFileError: The file is missing, or is not what was archived.
        ArchiveError: What is in the table is not what was archived.
    """
    path = file_of(manifest.place)
    if path is not None:
        _fetch_file(stream, manifest, path)
    _refuse_altered(stream, manifest)


def _fetch_file(stream: StreamToMove, manifest: Row[Any], path: Path) -> None:
    file = ArchiveFile(path, stream.definition.aggregate_type, stream.aggregate_id)
    if not file.content(stream.connection).is_of(manifest):
        raise file.error("has other events than were archived. Restore it from a backup")
    stream.copy_from(file)
    filed = select(stream.archived.c.event_id).where(*stream.of_stream(stream.archived))
    stream.connection.execute(delete(stream.ids).where(stream.ids.c.event_id.in_(filed)))


def _refuse_altered(stream: StreamToMove, manifest: Row[Any]) -> None:
    content = content_hash(stream.connection, stream.archived, stream.definition.aggregate_type, stream.aggregate_id)
    if not content.is_of(manifest):
        raise stream.error(
            f"what is in {manifest.place} is not what was archived: {counted(content.events, 'event')} of {manifest.events}, whose "
            f"hash is {content.sha256.hex()}, not {manifest.sha256.hex()}. Restore them from a backup"
        )


def _refuse_within_backlog(stream: StreamToMove) -> None:
    """Refuse while a follower walks through a window: of the events, he would take those that lie ahead, and no others."""
    positions = stream.tables.projection_positions
    names = stream.connection.scalars(select(positions.c.projection_name).where(positions.c.window_end.is_not(None))).all()
    if names:
        raise stream.error(f"{', '.join(sorted(names))} is working off a backlog. Try again when it has caught up")


def _move(stream: StreamToMove, manifest: Row[Any]) -> None:
    events, archived = stream.tables.events, stream.archived
    with stream.database.letting_events_change(stream.connection, events):
        is_marker = events.c.event_type == ARCHIVED_TYPE
        marked = stream.connection.execute(delete(events).where(*stream.of_stream(events), is_marker)).rowcount
        if marked != 1:
            raise stream.error("the marker of the archive is not in the log. Run sa-eventsource verify")
        copied = stream.copy(archived, events)
        if not stream.database.has_one_writer and manifest.cluster != stream.connection.scalar(select(cluster_identifier())):
            of_stream = stream.of_stream(events)
            stream.connection.execute(update(events).where(*of_stream).values(transaction_id=LOWEST_TRANSACTION_ID))
    with stream.database.letting_events_change(stream.connection, archived):
        removed = stream.connection.execute(delete(archived).where(*stream.of_stream(archived))).rowcount
    stream.check_moved(manifest.events, copied, removed)


def _in_the_way(stream: StreamToMove, error: IntegrityError | ReadModelError) -> str:
    """Say what has taken the place of an event since it was archived; else what the database says, as of an application's index."""
    events, archived = stream.tables.events, stream.archived
    is_same = events.c.event_id == archived.c.event_id
    taken = select(
        archived.c.version,
        archived.c.event_id,
        archived.c.position,
        events.c.version.label("other_version"),
        events.c.aggregate_type,
        events.c.aggregate_id,
        is_same.label("is_same"),
    ).join_from(archived, events, or_(is_same, events.c.position == archived.c.position))
    of_other = or_(events.c.aggregate_type != archived.c.aggregate_type, events.c.aggregate_id != archived.c.aggregate_id)
    row = stream.connection.execute(
        taken.where(*stream.of_stream(archived), of_other).order_by(archived.c.version).limit(1)
    ).one_or_none()
    if row is None:
        return f"it cannot come back: {message_of(error)}. Remove what stands in the way, and try again"
    other = f"version {row.other_version} of {row.aggregate_type} {row.aggregate_id!r}"
    what = f"is stored again as {other}" if row.is_same else f"has position {row.position}, where {other} stands"
    return (
        f"its version {row.version}, event {row.event_id}, {what}. That was appended by a process whose base has no archives, or "
        "imported. Give it another place, as by archiving that stream, and try again"
    )
