"""Streams that are not archived, or not brought back, and what is said of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, MetaData, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    AggregateNotFoundError,
    ArchiveError,
    DeclarationError,
    StreamArchivedError,
    archive,
    archived_streams,
    unarchive,
)
from tests.ending.tills import ARCHIVED, EVENTS, Base, Till, all_rows, follow_all, put_away, sell
from tests.shop import AnyTill


@pytest.fixture
def tables() -> MetaData | None:
    return Base.metadata


def test_an_open_stream_an_unknown_one_and_one_of_its_end_alone_are_refused(shop: Engine) -> None:
    sell(shop, "t-0")
    with Session(shop) as session:
        with pytest.raises(ArchiveError, match="close_stream"):
            archive(session, Till, "t-2", reason="r")
        with pytest.raises(AggregateNotFoundError):
            archive(session, Till, "nobody", reason="r")
        with pytest.raises(ArchiveError, match="no event but the one"):
            archive(session, Till, "t-0", reason="r")
        with pytest.raises(ArchiveError, match="not archived"):
            unarchive(session, Till, "t-1", reason="r")
        for function in (archive, unarchive):
            with pytest.raises(ValueError, match="for the record"):
                function(session, Till, "t-1", reason=" ")
            with pytest.raises(TypeError, match="write a text"):
                function(session, Till, "t-1", reason=None)  # type: ignore[arg-type]


def test_an_archived_stream_is_not_archived_again(shop: Engine) -> None:
    put_away(shop)
    with Session(shop) as session, pytest.raises(StreamArchivedError):
        archive(session, Till, "t-1", reason="r")


def test_a_base_without_archives_says_how_to_have_them(engine: Engine) -> None:
    class Plain(DeclarativeBase):
        pass

    class PlainTill(AnyTill, Plain):
        __aggregate_type__ = "archiving.PlainTill"

    with Session(engine) as session:
        with pytest.raises(DeclarationError, match="archives="):
            archive(session, PlainTill, "t-1", reason="r")
        with pytest.raises(DeclarationError, match="archives="):
            archived_streams(session, base=Plain)


def test_events_that_somebody_has_yet_to_take_stay(engine: Engine) -> None:
    sell(engine, "t-1", "pen")
    follow_all(engine)
    sell(engine, "t-2", "pen")
    with Session(engine) as session:
        with pytest.raises(ArchiveError, match="archiving_goods, archiving_heard, archiving_labels has yet to take"):
            archive(session, Till, "t-2", reason="r")
        archive(session, Till, "t-1", reason="r")


def test_events_that_are_not_in_the_tree_yet_stay(shop: Engine) -> None:
    with shop.begin() as connection:
        connection.execute(text("DELETE FROM merkle_tree"))
    with Session(shop) as session, pytest.raises(ArchiveError, match="Merkle tree"):
        archive(session, Till, "t-1", reason="r")


def test_parked_events_stay(shop: Engine) -> None:
    with Session(shop) as session:
        parked = Base.metadata.tables["parked_events"]
        session.execute(
            parked.insert().values(
                projection_name="archiving_goods",
                position=1,
                event_id=UUID(int=1),
                aggregate_type="archiving.Till",
                aggregate_id="t-1",
            )
        )
        with pytest.raises(ArchiveError, match="parked for archiving_goods"):
            archive(session, Till, "t-1", reason="r")


def test_nothing_comes_back_into_a_backlog_that_is_being_worked_off(shop: Engine) -> None:
    put_away(shop)
    with Session(shop) as session:
        session.execute(
            text("UPDATE projection_positions SET window_end = snapshot_cursor WHERE projection_name = 'archiving_heard'")
        )
        if shop.dialect.name == "sqlite":
            session.execute(text("UPDATE projection_positions SET window_end = '3:3:' WHERE projection_name = 'archiving_heard'"))
        with pytest.raises(ArchiveError, match="archiving_heard is working off a backlog"):
            unarchive(session, Till, "t-1", reason="r")


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ("event_id", "version 1, event {id}, is stored again as version 1 of archiving.Till 't-9'"),
        ("position", "version 1, event {id}, has position {position}, where version 1 of archiving.Till 't-9' stands"),
    ],
)
def test_what_has_taken_its_place_meanwhile_is_named(shop: Engine, taken: str, said: str) -> None:
    put_away(shop)
    with shop.begin() as connection:
        first: Any = connection.execute(select(ARCHIVED).where(ARCHIVED.c.version == 1, ARCHIVED.c.aggregate_id == "t-1")).one()
        values = {**first._mapping, "event_id": uuid4(), "position": first.position + 1000, "aggregate_id": "t-9"}
        connection.execute(insert(EVENTS).values({**values, taken: getattr(first, taken)}))
    with Session(shop) as session:
        with pytest.raises(ArchiveError) as caught:
            unarchive(session, Till, "t-1", reason="r")
        assert said.format(id=first.event_id, position=first.position) in caught.value.reason
        assert (caught.value.aggregate_type, caught.value.aggregate_id) == ("archiving.Till", "t-1")
        assert isinstance(caught.value.__cause__, IntegrityError)
        session.commit()
    with shop.connect() as connection:
        assert [row[4] for row in all_rows(connection, "t-1")] == ["sa_eventsource.StreamArchived"]
        assert len(connection.execute(select(ARCHIVED)).all()) == 4
    with pytest.raises(DBAPIError), shop.begin() as connection:
        connection.execute(text("DELETE FROM events"))


def test_a_transaction_that_sees_one_state_is_refused(postgres_engine: Engine) -> None:
    sell(postgres_engine, "t-1", "pen")
    follow_all(postgres_engine)
    one_state = postgres_engine.execution_options(isolation_level="REPEATABLE READ")
    with Session(one_state) as session, pytest.raises(ArchiveError, match="READ COMMITTED"):
        archive(session, Till, "t-1", reason="r")
