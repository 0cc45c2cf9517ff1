"""What an append costs does not grow with the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import EventSourceOptions
from sa_eventsource.mapping import tables_of_base
from sa_eventsource.store import insert_statements

if TYPE_CHECKING:
    from sqlalchemy import Engine, MetaData


@pytest.fixture
def tables() -> MetaData | None:
    """Each test makes its own."""
    return None


@pytest.mark.parametrize("options", [{}, {"archives": "archives"}], ids=["plain", "archives"])
def test_several_events_of_known_streams_are_appended_by_the_index(postgres_engine: Engine, options: Any) -> None:
    base: Any = type("Base", (DeclarativeBase,), {"__eventsource__": EventSourceOptions(**options)})
    events = tables_of_base("a test", base).events
    base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(_EVENTS)
        connection.execute(text("ANALYZE events"))
        statements = insert_statements(events, type(connection.dialect))
        assert statements.many is not None
        assert statements.all_or_none is not None
        for each in (statements.many, statements.all_or_none):
            compiled: Any = each._statement.compile(connection)
            given = {name: 1 if name == "expected" else "[]" for name in compiled.params}
            plan = connection.execute(text(f"EXPLAIN {_named(compiled)}"), given).scalars().all()
            assert not [line for line in plan if "Seq Scan" in line or "hashed SubPlan" in line], plan


_EVENTS = text("""
    INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, occurred_at)
    SELECT gen_random_uuid(), 'Order', stream::text, version, 'Noted', 1, '{}', now()
    FROM generate_series(1, 60) AS stream, generate_series(1, 40) AS version
""")


def _named(compiled: Any) -> str:
    """Write the statement's parameters as SQLAlchemy's ``text()`` reads them."""
    statement = str(compiled).replace("::", "\\:\\:").replace(": ", "\\: ")
    for name in compiled.params:
        statement = statement.replace(f"%({name})s", f":{name}")
    return statement.replace("%%", "%")
