"""What an application sets up for its transactions holds also for questions that the library asks beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
import sqlalchemy
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, SessionTransaction, scoped_session, sessionmaker

from sa_eventsource import (
    ConcurrencyError,
    EventAlreadyAppendedError,
    ReadModel,
    ReadModelLagError,
    Worker,
    commit_token,
    map_from_event,
    wait_for,
    waiting_for,
)
from sa_eventsource.read_models import count
from tests.committing import commit_events
from tests.shop import AnyOrder, NoteAdded


class Base(DeclarativeBase):
    """Declarative base of these tests."""


class Order(AnyOrder, Base):
    """Where things are noted."""

    __aggregate_type__ = "questions.Order"


class NoteCount(ReadModel, Base):
    """How much was noted."""

    __projection_name__ = "questions_note_count"
    id: Mapped[str] = map_from_event(NoteAdded, key=True, source="aggregate_id")
    notes: Mapped[int] = map_from_event(NoteAdded, reduce=count())


MAP = {"schema_translate_map": {None: "t1"}}
Opener: TypeAlias = Callable[[Engine], Any]


@contextmanager
def options_of_session(engine: Engine) -> Iterator[Session]:
    with Session(engine, execution_options=MAP) as session:
        yield session


@contextmanager
def options_of_bound_connection(engine: Engine) -> Iterator[Session]:
    with engine.connect().execution_options(**MAP) as connection, Session(connection) as session:
        yield session


@contextmanager
def options_set_when_a_transaction_begins(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:

        @event.listens_for(session, "after_begin")
        def choose(_session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
            connection.execution_options(**MAP)

        yield session


@contextmanager
def search_path_set_when_a_transaction_begins(engine: Engine) -> Iterator[Session]:
    with Session(engine, info={"tenant": "t1"}) as session:

        @event.listens_for(session, "after_begin")
        def choose(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
            if not transaction.nested:
                connection.execute(text("SELECT set_config('search_path', :tenant, true)"), {"tenant": session.info["tenant"]})

        yield session


OPENERS = [options_of_bound_connection, options_set_when_a_transaction_begins, search_path_set_when_a_transaction_begins]
if sqlalchemy.__version__ >= "2.1":
    OPENERS.append(options_of_session)
every_opener = pytest.mark.parametrize("opened", OPENERS)


@pytest.fixture
def tenant(postgres_engine: Engine) -> Engine:
    """Engine of the tenant's schema, and nothing in the default one."""
    with postgres_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA t1"))
    engine = postgres_engine.execution_options(**MAP)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        order = Order(id="a")
        order.apply_event(NoteAdded(text="first"))
        session.add(order)
        session.commit()
    return engine


@every_opener
@pytest.mark.parametrize("has_default_tables", [False, True])
def test_a_conflict_is_explained_by_the_log_that_was_written_to(
    postgres_engine: Engine, tenant: Engine, opened: Opener, has_default_tables: bool
) -> None:
    if has_default_tables:
        Base.metadata.create_all(postgres_engine)
    with opened(postgres_engine) as session:
        order = session.get_one(Order, "a")
        order.apply_event(NoteAdded(text="mine"))
        commit_events(tenant, Order, "a", NoteAdded(text="elsewhere"))
        with pytest.raises(ConcurrencyError) as refused:
            session.commit()
        assert (refused.value.expected_version, refused.value.actual_version) == (1, 2)


@every_opener
def test_an_event_that_is_stored_in_another_log_alone_is_not_taken_for_stored(
    postgres_engine: Engine, tenant: Engine, opened: Opener
) -> None:
    Base.metadata.create_all(postgres_engine)
    event_id = uuid4()
    with Session(postgres_engine) as session:
        order = Order(id="a")
        order.apply_event(NoteAdded(text="first"))
        order.apply_event(NoteAdded(text="same"), event_id=event_id)
        session.add(order)
        session.commit()
    with opened(postgres_engine) as session:
        order = session.get_one(Order, "a")
        order.apply_event(NoteAdded(text="same"), event_id=event_id)
        commit_events(tenant, Order, "a", NoteAdded(text="elsewhere"))
        with pytest.raises(ConcurrencyError):
            session.commit()


@every_opener
def test_an_event_that_is_stored_is_recognised(postgres_engine: Engine, tenant: Engine, opened: Opener) -> None:
    event_id = uuid4()
    with opened(postgres_engine) as session:
        session.get_one(Order, "a").apply_event(NoteAdded(text="same"), event_id=event_id)
        with Session(tenant) as other:
            other.get_one(Order, "a").apply_event(NoteAdded(text="same"), event_id=event_id)
            other.commit()
        with pytest.raises(EventAlreadyAppendedError):
            session.commit()


@every_opener
def test_a_commit_is_waited_for_where_it_was_made(postgres_engine: Engine, tenant: Engine, opened: Opener) -> None:
    with opened(postgres_engine) as session:
        session.get_one(Order, "a").apply_event(NoteAdded(text="mine"))
        session.commit()
        token = commit_token(session)
        assert token is not None
        with pytest.raises(ReadModelLagError):
            wait_for(session, NoteCount, after=token, timeout=0.01)
        Worker(tenant, Base, only=["questions_note_count"]).run_once()
        wait_for(session, NoteCount, after=token)
        session.get_one(Order, "a").apply_event(NoteAdded(text="more"))
        with waiting_for(session, NoteCount, timeout=0.01), pytest.raises(ReadModelLagError):
            session.commit()


def test_a_conflict_is_a_conflict_where_what_sets_a_transaction_up_fails_beside_it(postgres_engine: Engine, tenant: Engine) -> None:
    seen: set[SessionTransaction] = set()
    with Session(tenant) as session:

        @event.listens_for(session, "after_begin")
        def only_once(_session: Session, transaction: SessionTransaction, _connection: Connection) -> None:
            assert transaction not in seen
            seen.add(transaction)

        session.get_one(Order, "a").apply_event(NoteAdded(text="mine"))
        commit_events(tenant, Order, "a", NoteAdded(text="elsewhere"))
        with pytest.raises(ConcurrencyError) as refused:
            session.commit()
        assert refused.value.actual_version is None


def test_a_scoped_session_is_waited_for(tenant: Engine) -> None:
    registry = scoped_session(sessionmaker(tenant))
    registry.get_one(Order, "a").apply_event(NoteAdded(text="mine"))
    registry.commit()
    token = commit_token(registry)
    assert token is not None
    Worker(tenant, Base, only=["questions_note_count"]).run_once()
    wait_for(registry, NoteCount, after=token)
    registry.remove()
