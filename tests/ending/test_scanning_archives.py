"""The scan of a log reads what is archived too, and takes the markers of ends and archives for what they are."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, MetaData, insert, select
from sqlalchemy.orm import Session

from sa_eventsource import archive
from sa_eventsource.evolution import LogScan, scan_log
from sa_eventsource.mapping import tables_on
from tests.ending.tills import Base, Till, follow_all, sell

ARCHIVED = Base.metadata.tables["archived_events"]


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def shop(engine: Engine) -> Engine:
    sell(engine, "t-1", "pen", "ink")
    sell(engine, "t-2", "pen", close=False)
    follow_all(engine)
    with Session(engine) as session:
        archive(session, Till, "t-1", reason="sold out")
        session.commit()
    return engine


def _scan(connection: Connection, sample: int | None = None) -> LogScan:
    return scan_log(connection, tables_on(Base.metadata), sample=sample)


def test_archived_events_are_read_and_nothing_is_wrong_with_markers(shop: Engine) -> None:
    with shop.connect() as connection:
        scan = _scan(connection)
    assert (scan.events, scan.read, scan.findings) == (5, 5, [])  # three are archived; the log has one, and the marker


@pytest.mark.parametrize("sample", [None, 1])
def test_an_archived_event_that_nothing_reads_is_told(shop: Engine, sample: int | None) -> None:
    with shop.begin() as connection:
        row = connection.execute(select(ARCHIVED).where(ARCHIVED.c.version == 1)).one()._asdict()
        other = {"event_id": UUID(int=1), "aggregate_id": "t-9", "position": 999, "event_type": "archiving.Given"}
        connection.execute(insert(ARCHIVED), {**row, **other})
        scan = _scan(connection, sample)
    (found,) = scan.findings
    assert (found.trouble, found.subject, found.count, found.first["aggregate_id"]) == ("unknown type", "archiving.Given", 1, "t-9")
