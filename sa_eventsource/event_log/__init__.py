"""The log as an application reads and follows it."""

from sa_eventsource.event_log.event_store import AsyncEventStore, EventStore

__all__ = ["AsyncEventStore", "EventStore"]
