"""The event log: appending, reading back what aggregates are rebuilt from, snapshots, queries."""

from sa_eventsource.store.append import CONTEXT_KEY, Appended, AppendRefusedError, StreamAppend, append, on_appended
from sa_eventsource.store.conflicts import current_version, raise_explained
from sa_eventsource.store.driver_statement import DriverStatement
from sa_eventsource.store.event_conditions import recorded, select_events
from sa_eventsource.store.event_query import AsyncEventQuery, EventQuery
from sa_eventsource.store.event_store import AsyncEventStore, EventStore
from sa_eventsource.store.replay import StoredStream, read_stream, read_streams
from sa_eventsource.store.snapshots import write_snapshots
from sa_eventsource.store.windows import between_positions, current_snapshot, in_window

__all__ = [
    "CONTEXT_KEY",
    "AppendRefusedError",
    "Appended",
    "AsyncEventQuery",
    "AsyncEventStore",
    "DriverStatement",
    "EventQuery",
    "EventStore",
    "StoredStream",
    "StreamAppend",
    "append",
    "between_positions",
    "current_snapshot",
    "current_version",
    "in_window",
    "on_appended",
    "raise_explained",
    "read_stream",
    "read_streams",
    "recorded",
    "select_events",
    "write_snapshots",
]
