"""Some of the streams: those of one shard, without what is parked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Integer, LargeBinary, func, literal_column, select

from sa_eventsource.mapping import quoted

if TYPE_CHECKING:
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.mapping import EventSourceTables


@dataclass(frozen=True, slots=True)
class Streams:
    """Which streams a statement is about.

    Attributes:
        shard: The shard, from 0 on.
        shards: How many there are.
        not_parked_by: A consumer's name: events that it has parked, and all later ones of their streams, are left out; None for
            no such thing.
    """

    shard: int = 0
    shards: int = 1
    not_parked_by: str | None = None

    def conditions(self, tables: EventSourceTables) -> list[ColumnElement[bool]]:
        """Write the conditions on the events table."""
        events = tables.events
        found: list[ColumnElement[bool]] = []
        if self.shards > 1:
            # A digest that is the same in every release and on every machine, unlike PostgreSQL's own hash functions.
            digest = func.sha256(func.convert_to(events.c.aggregate_id, quoted("UTF8")), type_=LargeBinary())
            number = func.get_byte(digest, literal_column("0", Integer), type_=Integer())
            found.append(number % literal_column(str(self.shards), Integer) == literal_column(str(self.shard), Integer))
        if self.not_parked_by is not None:
            found.append(~is_parked(tables, self.not_parked_by))
        return found


ALL_STREAMS = Streams()


def is_parked(tables: EventSourceTables, name: str) -> ColumnElement[bool]:
    """Check whether a consumer has parked an event, or an earlier one of its stream."""
    parked, events = tables.parked_events, tables.events
    return (
        select(literal_column("1", Integer))
        .where(
            parked.c.projection_name == quoted(name),
            parked.c.aggregate_type == events.c.aggregate_type,
            parked.c.aggregate_id == events.c.aggregate_id,
            parked.c.position <= events.c.position,
        )
        .correlate(events)
        .exists()
    )
