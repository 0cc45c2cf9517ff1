"""The inbox: a message is handled once, in the consumer's own transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from cloudevents.core.v1.event import CloudEvent
from sqlalchemy import Engine, MetaData, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import AutocommitError, DeclarationError, EventStore, Inbox, MessageIdError, context_of, event_context
from tests.bank import AnyAccount


class Base(DeclarativeBase):
    """A consumer's base, with no log yet."""


class Bill(Base):
    """What the consumer does."""

    __tablename__ = "bills"

    id: Mapped[int] = mapped_column(primary_key=True)


class Account(AnyAccount, Base):
    """What events of another service are appended to."""

    __aggregate_type__ = "inbox.Account"


inbox = Inbox(Base)
auditor = Inbox(Base, consumer="auditor")


def message(message_id: str | UUID, source: str = "/shop", **attributes: str) -> Any:
    """A message as FastStream gives it."""
    return SimpleNamespace(headers={"ce-id": str(message_id), "ce-source": source, **{f"ce-{k}": v for k, v in attributes.items()}})


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def consumer(engine: Engine) -> Iterator[Engine]:
    yield engine


def handle(engine: Engine, received: Any, by: Inbox = inbox) -> bool:
    with Session(engine) as session, session.begin():
        is_new = by(session, received)
        if is_new:
            session.add(Bill())
        return is_new


def bills(engine: Engine) -> int:
    with Session(engine) as session:
        return session.scalars(select(func.count()).select_from(Bill)).one()


def test_a_message_is_handled_once(consumer: Engine) -> None:
    first, second = uuid4(), uuid4()
    assert [handle(consumer, message(each)) for each in (first, first, second, first, second)] == [True, False, True, False, False]
    assert bills(consumer) == 2


def test_a_message_whose_handling_was_rolled_back_comes_again(consumer: Engine) -> None:
    received = message(uuid4())
    with Session(consumer) as session:
        assert inbox(session, received)
        session.add(Bill())
        session.rollback()
    assert handle(consumer, received)
    assert bills(consumer) == 1


def test_each_consumer_and_each_source_has_its_own(consumer: Engine) -> None:
    received = uuid4()
    assert handle(consumer, message(received))
    assert handle(consumer, message(received), by=auditor)
    assert handle(consumer, message(received, source="/other"))
    assert not handle(consumer, message(received), by=auditor)


@pytest.mark.parametrize(
    "as_received",
    [
        lambda one: SimpleNamespace(headers={"ce_id": one, "ce_source": "/x"}),
        lambda one: SimpleNamespace(headers={"Ce-Id": one.encode(), "Ce-Source": b"/x"}),
        lambda one: {"cloudEvents:id": one, "cloudEvents:source": "/x"},
        lambda one: CloudEvent({"id": one, "source": "/x", "type": "t"}),
    ],
    ids=["kafka", "bytes", "headers", "CloudEvent"],
)
def test_an_id_is_found_in_whatever_carries_it(sqlite_engine: Engine, as_received: Any) -> None:
    one = str(uuid4())
    assert handle(sqlite_engine, as_received(one))
    assert not handle(sqlite_engine, message(one, source="/x"))


def test_an_id_can_be_given_by_itself(sqlite_engine: Engine) -> None:
    one = uuid4()
    assert [handle(sqlite_engine, one), handle(sqlite_engine, str(one)), handle(sqlite_engine, "m-1")] == [True, False, True]


@pytest.mark.parametrize("received", [SimpleNamespace(headers={}), object(), "", "x" * 256, {"ce-source": "/x"}], ids=range(5))
def test_a_message_without_an_id_is_refused(sqlite_engine: Engine, received: Any) -> None:
    with Session(sqlite_engine) as session, pytest.raises(MessageIdError, match="give the inbox the id itself"):
        inbox(session, received)


def test_two_at_once_do_not_handle_the_same_message(postgres_engine: Engine) -> None:
    received, found = message(uuid4()), []
    with Session(postgres_engine) as session, session.begin():
        assert inbox(session, received)
        other = threading.Thread(target=lambda: found.append(handle(postgres_engine, received)))
        other.start()
        session.add(Bill())
    other.join(30)
    assert found == [False]
    assert bills(postgres_engine) == 1


async def test_an_asynchronous_session_handles_it_in_run_sync(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    received = message(uuid4())
    for is_new in (True, False):
        async with AsyncSession(async_engine) as session, session.begin():
            assert await session.run_sync(inbox, received) is is_new


def test_old_rows_are_pruned(consumer: Engine) -> None:
    received = message(uuid4())
    handle(consumer, received)
    handle(consumer, received, by=auditor)
    with Session(consumer) as session, session.begin():
        assert inbox.prune(session, older_than=timedelta(hours=1)) == 0
        assert inbox.prune(session, older_than=timedelta(0)) == 1
        with pytest.raises(ValueError, match="0 or more"):
            inbox.prune(session, older_than=timedelta(-1))
    assert handle(consumer, received)
    assert not handle(consumer, received, by=auditor)


def test_an_event_of_another_service_is_appended_once_with_its_cause(consumer: Engine) -> None:
    cause, correlation = uuid4(), uuid4()
    received = message(cause, correlationid=str(correlation))
    for _ in range(2):
        with Session(consumer) as session, session.begin():
            if inbox(session, received):
                context = context_of(received)
                with event_context(correlation_id=context.correlation_id, causation_id=context.causation_id):
                    account = session.get(Account, "a") or Account(id="a")
                    account.deposit()
                    session.add(account)
    with Session(consumer) as session:
        (event,) = EventStore(session, Base).events
        assert (event.causation_id, event.correlation_id) == (cause, correlation)


def test_declarations_that_make_no_sense_are_refused(sqlite_engine: Engine) -> None:
    with pytest.raises(DeclarationError, match="takes a declarative base"):
        Inbox(object())
    with pytest.raises(DeclarationError, match="has a table 'bills' already"):
        Inbox(Base, table="bills")
    with pytest.raises(DeclarationError, match="at most 255"):
        Inbox(Base, consumer="x" * 256)
    assert Inbox(Base).table is inbox.table
    with Session(sqlite_engine) as session, pytest.raises(TypeError, match="takes a Session"):
        inbox(object(), message(uuid4()))  # type: ignore[arg-type]
    with Session(sqlite_engine.execution_options(isolation_level="AUTOCOMMIT")) as session, pytest.raises(AutocommitError):
        inbox(session, message(uuid4()))
