"""The selectable that an aggregate class is mapped to: one row a stream of its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from sa_eventsource.mapping.aggregate_ids import STORED_ID, typed_id

if TYPE_CHECKING:
    from sqlalchemy import FromClause, Table


def streams_of(events: Table, aggregate_type: str, id_type: type[Any]) -> FromClause:
    """Select the id and the latest version of every aggregate of one type.

    PostgreSQL pushes a condition on the stored id into the subquery, so loading one aggregate reads only its own index entries.
    """
    columns = [typed_id(events.c.aggregate_id, id_type, aggregate_type).label("id"), func.max(events.c.version).label("version")]
    if id_type is not str:
        columns.append(events.c.aggregate_id.label(STORED_ID))
    # An alias, unlike a subquery, may stand in update(Order), so that the session can say what to do instead.
    return select(*columns).where(events.c.aggregate_type == aggregate_type).group_by(events.c.aggregate_id).subquery().alias()
