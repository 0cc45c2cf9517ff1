"""Events and statements that are committed in a transaction of their own, as by somebody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, func, insert, select, text
from sqlalchemy.orm import Session

from sa_eventsource import AggregateRoot, DomainEvent
from sa_eventsource.mapping import tables_on
from sa_eventsource.mapping.immutability import SWITCH, create_statements, drop_statements


def commit_events(
    engine: Engine,
    aggregate_class: type[AggregateRoot[Any]],
    aggregate_id: Any,
    *events: DomainEvent,
    occurred_at: datetime | None = None,
) -> None:
    """Commit events of one aggregate in one transaction; an aggregate that is not there begins with them."""
    with Session(engine) as session:
        aggregate = session.get(aggregate_class, aggregate_id)
        if aggregate is None:
            session.add(aggregate := aggregate_class(id=aggregate_id))
        for event in events:
            aggregate.apply_event(event, occurred_at=occurred_at)
        session.commit()


def commit_stored(
    engine: Engine, aggregate_class: type[AggregateRoot[Any]], aggregate_id: str, event_type: str, payload: Any, *, version: int = 1
) -> None:
    """Commit one event with a payload that its class would not write: of the first version, or one that cannot be read."""
    definition = aggregate_class.__aggregate_definition__
    events = definition.tables.events
    values: dict[str, Any] = {
        "event_id": uuid4(),
        "aggregate_type": definition.aggregate_type,
        "aggregate_id": aggregate_id,
        "version": version,
        "event_type": event_type,
        "event_version": 1,
        "event_data": payload,
        "occurred_at": datetime(2026, 5, 1, tzinfo=UTC),
    }
    if engine.dialect.name == "sqlite":
        values["position"] = select(func.coalesce(func.max(events.c.position), 0) + 1).scalar_subquery()
    with engine.begin() as connection:
        connection.execute(insert(events).values(values))


def execute(engine: Engine, *statements: str) -> None:
    """Commit SQL statements in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


@contextmanager
def changing_events(engine: Engine, base: Any) -> Iterator[Connection]:
    """Begin a transaction that can change the stored events of a base, behind the back of the triggers that refuse it."""
    events = tables_on(base.metadata).events
    with engine.begin() as connection:
        is_sqlite = connection.dialect.name == "sqlite"
        for off in drop_statements(events, "sqlite") if is_sqlite else [text(f"SET LOCAL {SWITCH} = 'on'")]:
            connection.execute(off)
        yield connection
        for on in create_statements(events, "sqlite") if is_sqlite else ():
            connection.execute(on)
