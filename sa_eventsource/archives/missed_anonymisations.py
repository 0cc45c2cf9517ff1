"""Anonymisations and archives: what is archived is out of their reach, so that it must not come back as if they had seen it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from sa_eventsource.privacy import has_field
from sa_eventsource.store import select_raw_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

    from sa_eventsource.archives.moving import StreamToMove

_AT_A_TIME = 1000


def refuse_while_anonymising(stream: StreamToMove) -> None:
    """Refuse to archive while an anonymisation goes through the log: it would miss what is taken out ahead of it.

    Raises:
        ArchiveError: One does.
    """
    table = stream.tables.anonymisations
    if table is None:
        return
    names = stream.connection.scalars(select(table.c.name).where(table.c.finished_at.is_(None)).order_by(table.c.name)).all()
    if names:
        are = "is not finished" if len(names) == 1 else "are not finished"
        raise stream.error(
            f"the anonymisation {', '.join(map(repr, names))} {are}, and would miss its events. Call anonymise() until all is done"
        )


def refuse_missed(stream: StreamToMove, manifest: Row[Any]) -> None:
    """Refuse to bring back what an anonymisation was to rewrite while it was archived.

    An anonymisation keeps no conditions of its query, but its fields: events count that have one of them, not sealed.

    Raises:
        ArchiveError: There is such an event.
    """
    missed = _missed(stream, manifest)
    if missed:
        named = ", ".join(f"{each.name!r} ({', '.join(each.fields)})" for each in missed)
        raise stream.error(
            f"it has events with fields that were anonymised in the log while they were archived, by {named}. Bring it back with "
            "despite_anonymisations=True (--despite-anonymisations), and anonymise these fields again, under another name"
        )


def _missed(stream: StreamToMove, manifest: Row[Any]) -> Sequence[Row[Any]]:
    table, archived = stream.tables.anonymisations, stream.archived
    if table is None:
        return []
    is_later = or_(table.c.finished_at.is_(None), table.c.finished_at > manifest.archived_at)
    reached = table.c.last_position >= manifest.first_position
    left = list(stream.connection.execute(select(table).where(is_later, reached).order_by(table.c.begun_at, table.c.name)))
    found: list[Row[Any]] = []
    if not left:
        return found
    statement = select_raw_events(archived).where(*stream.of_stream(archived)).order_by(archived.c.version)
    with stream.connection.execute(statement, execution_options={"yield_per": _AT_A_TIME}) as rows:
        for row in rows:
            seen = [each for each in left if row.position <= each.last_position and has_field(row.event_data, each.fields)]
            found += seen
            left = [each for each in left if each not in seen]
            if not left:
                break
    return found
