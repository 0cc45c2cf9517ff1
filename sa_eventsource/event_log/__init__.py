"""The log as an application reads and follows it, and the history of one aggregate."""

from sa_eventsource.event_log.aggregate_history import Change, History, read_history
from sa_eventsource.event_log.event_store import AsyncEventStore, EventStore

__all__ = ["AsyncEventStore", "Change", "EventStore", "History", "read_history"]
