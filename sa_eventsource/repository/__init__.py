"""Repositories: the aggregates of one class in one session."""

from sa_eventsource.repository.async_repository import AsyncEventSourcedRepository
from sa_eventsource.repository.repository import EventSourcedRepository
from sa_eventsource.repository.unloaded_streams import ExpectedVersion

__all__ = ["AsyncEventSourcedRepository", "EventSourcedRepository", "ExpectedVersion"]
