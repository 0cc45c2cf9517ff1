"""Who follows a log."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from sa_eventsource.consumers.declared_consumers import chosen_consumers
from sa_eventsource.consumers.shards import Follower, followers_of
from sa_eventsource.mapping import tables_on


def followers_on(engine: Engine, base: Any) -> list[Follower]:
    """List all that follows a base's log, part by part."""
    return [
        each for consumer in chosen_consumers(tables_on(base.metadata), None) for each in followers_of(consumer, engine.dialect)
    ]
