"""Archived streams: out of the log, in a table next to it, with a manifest; and back."""

from sa_eventsource.archives.archive_files import ArchiveFile, async_unneeded_archive_files, unneeded_archive_files
from sa_eventsource.archives.archiving import archive, async_archive
from sa_eventsource.archives.compacting import async_compact, compact
from sa_eventsource.archives.content import content_hash
from sa_eventsource.archives.manifests import Archive, archived_streams, async_archived_streams, file_of
from sa_eventsource.archives.unarchiving import async_unarchive, unarchive

__all__ = [
    "Archive",
    "ArchiveFile",
    "archive",
    "archived_streams",
    "async_archive",
    "async_archived_streams",
    "async_compact",
    "async_unarchive",
    "async_unneeded_archive_files",
    "compact",
    "content_hash",
    "file_of",
    "unarchive",
    "unneeded_archive_files",
]
