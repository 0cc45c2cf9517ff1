"""The selectable that an aggregate class is mapped to: one row a stream of its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, type_coerce

from sa_eventsource.mapping.column_types import AggregateId

if TYPE_CHECKING:
    from sqlalchemy import Subquery, Table


def streams_of(events: Table, aggregate_type: str, id_type: type[Any]) -> Subquery:
    """Select the id and the latest version of every aggregate of one type.

    PostgreSQL pushes a condition on the id into the subquery, so loading one aggregate reads only its own index entries.
    """
    identifier = type_coerce(events.c.aggregate_id, AggregateId(id_type, aggregate_type)).label("id")
    return (
        select(identifier, func.max(events.c.version).label("version"))
        .where(events.c.aggregate_type == aggregate_type)
        .group_by(events.c.aggregate_id)
        .subquery()
    )
