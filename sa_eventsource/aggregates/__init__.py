"""Aggregates: their state, the methods that change it, their definition."""

from sa_eventsource.aggregates.aggregate_definition import AggregateDefinition, definition_of
from sa_eventsource.aggregates.aggregate_root import AggregateRoot
from sa_eventsource.aggregates.digest import digest as digest_of
from sa_eventsource.aggregates.handlers import applies
from sa_eventsource.aggregates.instance import (
    advance,
    base_version,
    blank,
    books_of,
    drop_half_changed_state,
    drop_state,
    identity_of,
    make_state_again,
    past_view,
    rebase,
    restore,
    rewind,
    session_side,
    set_session_side,
)
from sa_eventsource.aggregates.snapshot_state import SnapshotState
from sa_eventsource.aggregates.state_field import StateField

__all__ = [
    "AggregateDefinition",
    "AggregateRoot",
    "SnapshotState",
    "StateField",
    "advance",
    "applies",
    "base_version",
    "blank",
    "books_of",
    "definition_of",
    "digest_of",
    "drop_half_changed_state",
    "drop_state",
    "identity_of",
    "make_state_again",
    "past_view",
    "rebase",
    "restore",
    "rewind",
    "session_side",
    "set_session_side",
]
