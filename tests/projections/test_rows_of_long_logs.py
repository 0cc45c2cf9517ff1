"""Rebuilding some rows reads their streams, and not the rest of the log, where the rows' key says which streams these are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    EventReplayer,
    ReadModel,
    ReadModelManager,
    RecordedEvent,
    evolves,
    map_from_event,
    verify,
)
from sa_eventsource.read_models import count, sum_
from tests.bank import AnyAccount, Deposited


class Base(DeclarativeBase):
    """Base of what is counted."""


class Account(AnyAccount, Base):
    """May have the id of a safe."""

    __aggregate_type__ = "long.Account"


class Safe(AnyAccount, Base):
    """May have the id of an account."""

    __aggregate_type__ = "long.Safe"


class Stock(ReadModel, Base):
    """Of whatever has the id."""

    __projection_name__ = "long_stock"
    id: Mapped[str]
    total: Mapped[int] = map_from_event(Deposited, source="amount", reduce=sum_())


class KeptApart(ReadModel, Base):
    """A row a stream, in a table of its own."""

    __tablename__ = "long_kept_apart"
    kind: Mapped[str] = map_from_event(key=True, source="aggregate_type")
    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    counts: Mapped[int] = map_from_event(Deposited, reduce=count())


class Evolved(ReadModel, Base):
    """Worked out by Python."""

    __projection_name__ = "long_evolved"
    id: Mapped[str]
    total: Mapped[int] = mapped_column(default=0)

    @evolves(Deposited)
    def _deposited(self, recorded: RecordedEvent[Deposited]) -> None:
        self.total += recorded.event.amount


_LOG = """
INSERT INTO events (event_id, aggregate_type, aggregate_id, version, event_type, event_data, occurred_at)
SELECT gen_random_uuid(), kind, 'n-' || stream, version, 'bank.Deposited', jsonb_build_object('amount', version), now()
FROM generate_series(1, 3) AS version, generate_series(1, 1000) AS stream,
  unnest('{long.Account,long.Safe,long.Gone}'::text[]) AS kind
ORDER BY version, stream
"""


@pytest.fixture
def filled(postgres_engine: Engine) -> Engine:
    Base.metadata.create_all(postgres_engine)
    with postgres_engine.begin() as connection:
        connection.execute(text(_LOG))
    with postgres_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE events"))
    ReadModelManager(postgres_engine, Base).catch_up()
    return postgres_engine


@contextmanager
def plans(engine: Engine) -> Iterator[list[str]]:
    """Collect how PostgreSQL executes what reads the log."""
    found: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "events" in statement and statement.startswith(("SELECT", "INSERT", "WITH")):
            as_cursor = "DECLARE a CURSOR FOR " if getattr(cursor, "name", "") else ""  # is planned for its first rows
            rows = connection.connection.cursor().execute(f"EXPLAIN {as_cursor}{statement}", parameters).fetchall()
            found.append("\n".join(line for (line,) in rows))

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", explain)


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        (Stock, ["n-7", "n-999", "missing"]),
        pytest.param(KeptApart, [("long.Safe", "n-7"), ("long.Gone", "n-7")], marks=pytest.mark.slow),
        pytest.param(Evolved, ["n-7", "n-8"], marks=pytest.mark.slow),
    ],
    ids=["declared", "own table", "evolved"],
)
def test_the_rest_of_the_log_is_not_read(filled: Engine, model: type[Any], keys: list[Any]) -> None:
    for _ in range(7):  # psycopg prepares what is executed often, and then PostgreSQL may plan for any parameters
        with plans(filled) as found:
            assert EventReplayer(filled, Base).rebuild_rows(model, keys) == 2
        assert found
        assert not [each for each in found if re.search(r"Seq Scan on events|using \w*position", each)]
    assert {each.check for each in verify(filled, Base).findings} == {"aggregate types"}, "the rows are right"


def test_all_types_that_share_an_id_are_found_also_those_that_no_class_has(filled: Engine) -> None:
    with filled.begin() as connection:
        connection.execute(text("UPDATE projections SET data = jsonb_set(data, '{total}', '0') WHERE id = 'n-7'"))
    assert EventReplayer(filled, Base).rebuild_rows(Stock, ["n-7"]) == 1
    with Session(filled) as session:
        assert session.get_one(Stock, "n-7").total == 3 * (1 + 2 + 3)


def test_what_is_not_taken_yet_stays_out(filled: Engine) -> None:
    with Session(filled) as session:
        session.get_one(Account, "n-7").apply_event(Deposited(amount=100))
        session.add(new := Account(id="n-new"))
        new.apply_event(Deposited(amount=100))
        session.commit()
    assert EventReplayer(filled, Base).rebuild_rows(Stock, ["n-7", "n-new"]) == 1
    ReadModelManager(filled, Base).catch_up()
    with Session(filled) as session:
        assert session.get_one(Stock, "n-7").total == 18 + 100
        assert session.get_one(Stock, "n-new").total == 100
