"""Archives as Parquet files, each named after the hash of its events, so that the same events have the same file.

A file stands under its name only when all of it is on the disk and was read back. Whoever is killed before leaves one that ends in
``.part``; whoever is killed or rolls back behind that, one that no manifest names. To archive the stream again replaces both.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.engine import result_tuple

from sa_eventsource.archives.content import Content, content_of
from sa_eventsource.archives.manifests import file_of, require_archives
from sa_eventsource.events import key_ids_in
from sa_eventsource.exceptions import ArchiveFileError, DeclarationError, LogImportError
from sa_eventsource.mapping import EVENT_COLUMNS, check_async_session, check_session, present_session, tables_of_base
from sa_eventsource.store import autoflush, one_at_a_time
from sa_eventsource.transfer import load_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Row, Table
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session
    from sqlalchemy.sql import ColumnElement

_SUFFIX = ".parquet"
_UNFINISHED = ".parquet.part"

_row_of = result_tuple(["event_metadata" if each.name == "metadata" else each.name for each in EVENT_COLUMNS])


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """The file of one archive.

    Attributes:
        path: Where it is.
        aggregate_type: The stream's type name.
        aggregate_id: Its id as stored.
    """

    path: Path
    aggregate_type: str
    aggregate_id: str

    @classmethod
    def named(cls, directory: Path, sha256: bytes, aggregate_type: str, aggregate_id: str) -> ArchiveFile:
        """Choose the file for events with a hash."""
        return cls(directory / f"{sha256.hex()}{_SUFFIX}", aggregate_type, aggregate_id)

    def write(self, connection: Connection, events: Table, where: list[ColumnElement[bool]], content: Content) -> frozenset[str]:
        """Write the stream's events, and read them back, before the file gets its name.

        Args:
            connection: Where to read.
            events: The log.
            where: What selects the stream in it.
            content: What the events come to.

        Returns:
            The ids of the keys that personal data in it is sealed with.

        Raises:
            ArchiveFileError: It cannot be written, or not read back as what the log has.
        """
        unfinished = ArchiveFile(self.path.with_suffix(_UNFINISHED), self.aggregate_type, self.aggregate_id)
        try:
            with unfinished.path.open("wb") as file:
                load_parquet().export_parquet(connection, events, file, *where)
                file.flush()
                os.fsync(file.fileno())
            key_ids: set[str] = set()
            if unfinished.content(connection, key_ids) != content:
                raise self.error("is read back as something else than the log has. Try again, on a disk that keeps what it gets")
            unfinished.path.replace(self.path)
            _put_on_disk(self.path.parent)
        except OSError as error:
            raise self.error(f"cannot be written: {error}") from error
        finally:
            unfinished.path.unlink(missing_ok=True)
        return frozenset(key_ids)

    def content(self, connection: Connection, key_ids: set[str] | None = None) -> Content:
        """Read what its events come to, and note the ids of keys that something is sealed with.

        Raises:
            ArchiveFileError: It is missing, or cannot be read.
        """
        return content_of(connection, self.rows(set() if key_ids is None else key_ids), self.aggregate_type, self.aggregate_id)

    def rows(self, key_ids: set[str] | None = None) -> Iterator[Row[Any]]:
        """Read its events as rows of ``select_raw_events``, without a transaction's id.

        Raises:
            ArchiveFileError: It is missing, or cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                for event in load_parquet().parquet_events(file):
                    if key_ids is not None:
                        key_ids.update(key_ids_in(event.event_data))
                    yield _row_of([None if each.name == "transaction_id" else getattr(event, each.name) for each in EVENT_COLUMNS])
        except FileNotFoundError as error:
            raise self.error("is not there. Mount its directory, or restore it from a backup") from error
        except OSError as error:
            raise self.error(f"cannot be read: {error}") from error
        except LogImportError as error:
            raise self.error(f"was altered or damaged: {error}. Restore it from a backup") from error

    def error(self, reason: str) -> ArchiveFileError:
        """Say what is wrong with it."""
        return ArchiveFileError(self.aggregate_type, self.aggregate_id, self.path, reason)


def unneeded_archive_files(
    session: Session | scoped_session[Session], directory: str | os.PathLike[str], *, base: Any
) -> list[Path]:
    """List the archive files in a directory that no stream needs, which is archived now, in the session's transaction.

    They are of streams that were brought back, and of processes that were killed, or rolled back, while they archived; or another
    log's, where the directory is not this log's own. Nothing is deleted: look at them, and delete them before the transaction ends.
    Until then, nobody archives: who does is waited for, as is a transaction that is prepared and needs a file when it is committed.
    At isolation levels other than READ COMMITTED, what was archived while it waited is not seen.

    Args:
        session: The session.
        directory: The directory. What is below it is not looked at.
        base: The declarative base, or an aggregate's class.

    Raises:
        DeclarationError: The base has no archives; or tenants share its tables, so that files of others would seem unneeded.
        OSError: The directory cannot be read.
        TypeError: It is no path.
    """
    check_session("unneeded_archive_files()", session, instead="async_unneeded_archive_files")
    looked_at = directory_path("unneeded_archive_files", directory)
    asking = present_session(session)
    tables = tables_of_base("unneeded_archive_files()", base)
    archives, *_ = require_archives(tables)
    if tables.options.tenants:
        raise DeclarationError(
            "unneeded_archive_files(): tenants share these tables, and a session sees the archives of one. Compare the directory "
            "with archived_streams() of all of them"
        )
    autoflush(asking)
    connection = asking.connection(bind_arguments=tables.bind_arguments)
    one_at_a_time(connection, tables)  # a file is there before its manifest is
    places = connection.scalars(select(archives.c.place).where(archives.c.returned_at.is_(None)))
    needed = {path.name for place in places if (path := file_of(place)) is not None}
    files = [each for each in looked_at.iterdir() if each.name.endswith((_SUFFIX, _UNFINISHED)) and each.is_file()]
    return sorted(each for each in files if each.name not in needed)


async def async_unneeded_archive_files(session: AsyncSession, directory: str | os.PathLike[str], *, base: Any) -> list[Path]:
    """List the archive files in a directory that no stream needs. As :func:`unneeded_archive_files`."""
    check_async_session("async_unneeded_archive_files()", session, instead="unneeded_archive_files")
    return await session.run_sync(unneeded_archive_files, directory, base=base)


def directory_path(function: str, directory: object) -> Path:
    """Make a path of what was given as a directory; absolute, as manifests keep it.

    Raises:
        TypeError: It is no path.
    """
    if not isinstance(directory, str | os.PathLike) or not isinstance(os.fspath(directory), str):
        raise TypeError(f"{function}(directory={directory!r}): give a path, as a text or pathlib.Path")
    return Path(directory).absolute()


def _put_on_disk(directory: Path) -> None:
    """Have the names in a directory written to the disk. Windows lets nobody open one, and does it by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
