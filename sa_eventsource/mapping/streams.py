"""The selectable that an aggregate class is mapped to: one row a stream of its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, exists, func, literal_column, or_, select

from sa_eventsource.mapping.aggregate_ids import STORED_ID, typed_id
from sa_eventsource.mapping.archive_tables import archives_of, may_be_archived

if TYPE_CHECKING:
    from sqlalchemy import FromClause, Table
    from sqlalchemy.sql import ColumnElement


def streams_of(events: Table, aggregate_type: str, id_type: type[Any]) -> FromClause:
    """Select the id and the latest version of every aggregate of one type, except for those that are archived and not compacted.

    PostgreSQL pushes a condition on the stored id into the subquery, so loading one aggregate reads only its own index entries.
    """
    columns = [typed_id(events.c.aggregate_id, id_type, aggregate_type).label("id"), func.max(events.c.version).label("version")]
    if id_type is not str:
        columns.append(events.c.aggregate_id.label(STORED_ID))
    # An alias, unlike a subquery, may stand in update(Order), so that the session can say what to do instead.
    streams = select(*columns).where(events.c.aggregate_type == aggregate_type).group_by(events.c.aggregate_id)
    if may_be_archived(events):
        # Whether a stream is compacted is asked of those alone that do not begin with their first event.
        is_whole = func.min(events.c.version) == literal_column("1", Integer)
        streams = streams.having(or_(is_whole, _is_compacted(events, aggregate_type)))
    return streams.subquery().alias()


def _is_compacted(events: Table, aggregate_type: str) -> ColumnElement[bool]:
    archives = archives_of(events)
    same_stream = archives.c.aggregate_type == aggregate_type, archives.c.aggregate_id == events.c.aggregate_id
    return exists().where(*same_stream, archives.c.is_compacted, archives.c.returned_at.is_(None)).correlate(events)
