"""Events and statements that are committed in a transaction of their own, as by somebody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text
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
