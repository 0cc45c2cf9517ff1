"""The log as an application reads and follows it, and the history of one aggregate."""

from sa_eventsource.event_log.aggregate_history import Change, History, changes_between, read_history, state_texts
from sa_eventsource.event_log.event_store import AsyncEventStore, EventStore
from sa_eventsource.event_log.stream_replay import StreamReplay

__all__ = [
    "AsyncEventStore",
    "Change",
    "EventStore",
    "History",
    "StreamReplay",
    "changes_between",
    "read_history",
    "state_texts",
]
