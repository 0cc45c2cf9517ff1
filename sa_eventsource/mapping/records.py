"""The log's rows as a mapped class, for plain queries over events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import MetaData
from sqlalchemy.orm import Mapped, registry

from sa_eventsource.mapping.built_once import built_once
from sa_eventsource.mapping.session_arguments import tables_of_base
from sa_eventsource.mapping.tables import tables_on

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Table


class EventRecord:
    """One row of the ``events`` table, read-only: ``select(EventRecord).where(EventRecord.event_type == "OrderPlaced")``.

    This class reads the table under its default name, whichever metadata created it. Where ``__eventsource__`` names another
    table or a schema, ``event_record(Base)`` is the same class for that one. The unit of work refuses new, changed and deleted
    records: events are appended through aggregates.
    """

    if TYPE_CHECKING:
        __table__: ClassVar[Table]
        event_id: Mapped[UUID]
        aggregate_type: Mapped[str]
        aggregate_id: Mapped[str]
        version: Mapped[int]
        event_type: Mapped[str]
        event_version: Mapped[int]
        event_data: Mapped[dict[str, Any]]
        metadata: Mapped[dict[str, Any] | None]
        occurred_at: Mapped[datetime]
        correlation_id: Mapped[UUID | None]
        causation_id: Mapped[UUID | None]
        position: Mapped[int]
        transaction_id: Mapped[int]
        recorded_at: Mapped[datetime]

    def __repr__(self) -> str:
        """Name the event and its place."""
        return f"<EventRecord {self.event_type} {self.aggregate_type} {self.aggregate_id} v{self.version}>"


_registry = registry()


def _map(record: type[EventRecord], by: registry, events: Table) -> None:
    # By the event's id alone, also where it is one of two columns of the table's primary key.
    by.map_imperatively(record, events, primary_key=[events.c.event_id])


_map(EventRecord, _registry, tables_on(MetaData()).events)


def event_record(base: Any) -> type[EventRecord]:
    """Get the ``EventRecord`` class of one declarative base, for queries where its tables have other names or a schema.

    Args:
        base: A declarative base, or any class mapped on it.

    Returns:
        A class mapped to that base's events table; the same one at every call.
    """
    tables = tables_of_base("event_record()", base)
    return built_once(tables.events.metadata, _record_of, tables.events)


def _record_of(events: Table) -> type[EventRecord]:
    record = type("EventRecord", (EventRecord,), {"__doc__": EventRecord.__doc__})
    _map(record, registry(), events)  # one of its own: a registry warns of a name that comes twice
    return record
