"""What follows the log under one checkpoint: a read model or a subscription, or a shard of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sa_eventsource.consumers.stream_filter import Streams
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from sa_eventsource.consumers.consumer import Consumer
    from sa_eventsource.mapping import EventSourceTables


@dataclass(frozen=True, slots=True)
class Follower:
    """A consumer, or one shard of it.

    Attributes:
        consumer: What takes the events.
        name: Of the row that keeps the checkpoint.
        shard: Which shard it is, from 0 on.
        shards: How many there are.
    """

    consumer: Consumer
    name: str
    shard: int = 0
    shards: int = 1

    @property
    def tables(self) -> EventSourceTables:
        """The tables of the log that it follows."""
        return self.consumer.tables

    def streams(self, *, without_parked: bool) -> Streams:
        """Which streams it takes the events of."""
        return Streams(self.shard, self.shards, self.consumer.name if without_parked else None)


def followers_of(consumer: Consumer, dialect: Dialect) -> list[Follower]:
    """List a consumer's followers: one for each shard. A database with one writer at a time knows no shards."""
    number = 1 if database_of(dialect).has_one_writer else consumer.shards
    if number == 1:
        return [Follower(consumer, consumer.name)]
    return [Follower(consumer, f"{consumer.name}#{index + 1}/{number}", index, number) for index in range(number)]
