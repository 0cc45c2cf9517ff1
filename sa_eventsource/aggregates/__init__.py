"""Aggregates: their state, the methods that change it, their definition."""

from sa_eventsource.aggregates.aggregate_root import AggregateRoot
from sa_eventsource.aggregates.definition import AggregateDefinition, definition_of
from sa_eventsource.aggregates.handlers import applies
from sa_eventsource.aggregates.instance import (
    advance,
    blank,
    drop_state,
    is_loaded,
    past_view,
    pending_of,
    restore,
    rewind,
    set_pending,
)

__all__ = [
    "AggregateDefinition",
    "AggregateRoot",
    "advance",
    "applies",
    "blank",
    "definition_of",
    "drop_state",
    "is_loaded",
    "past_view",
    "pending_of",
    "restore",
    "rewind",
    "set_pending",
]
