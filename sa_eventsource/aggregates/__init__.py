"""Aggregates: their state, the methods that change it, their definition."""

from sa_eventsource.aggregates.aggregate_root import (
    AggregateRoot,
    blank,
    drop_state,
    is_loaded,
    past_view,
    pending_of,
    restore,
    rewind,
    set_pending,
)
from sa_eventsource.aggregates.definition import AggregateDefinition, definition_of
from sa_eventsource.aggregates.handlers import applies

__all__ = [
    "AggregateDefinition",
    "AggregateRoot",
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
