"""What privacy asks of a session: who does it, and what it has loaded of what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.aggregates import AggregateRoot, definition_of
from sa_eventsource.events import EventContext, current_context
from sa_eventsource.store import CONTEXT_KEY

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import EventSourceTables


def context_of(session: Session) -> EventContext:
    """Get the event context in which a session works, which says who does it."""
    outer = session.info.get(CONTEXT_KEY)
    return current_context().merged_over(outer) if isinstance(outer, EventContext) else current_context()


def expire_aggregates(session: Session, tables: EventSourceTables, models: tuple[type[Any], ...]) -> None:
    """Have what the session has loaded of a log's aggregates, and of some read models, read again."""
    for instance in list(session.identity_map.values()):
        is_aggregate = isinstance(instance, AggregateRoot) and definition_of(type(instance)).tables is tables
        if is_aggregate or isinstance(instance, models):
            session.expire(instance)
