"""The inbox as a dependency of FastStream's."""

from collections.abc import Iterator
from typing import Annotated, Any
from uuid import uuid4

import pytest
from faststream import AckPolicy
from faststream.rabbit import RabbitBroker, TestRabbitBroker
from sqlalchemy import Engine, MetaData, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sa_eventsource import AcknowledgementWarning, Inbox
from sa_eventsource.publishing.faststream_inbox import async_handled_once, handled_once


class Base(DeclarativeBase):
    """A consumer's base."""


class Bill(Base):
    """What the consumer does."""

    __tablename__ = "bills"

    id: Mapped[int] = mapped_column(primary_key=True)


inbox = Inbox(Base)


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def bills(engine: Engine) -> Iterator[sessionmaker[Session]]:
    yield sessionmaker(engine)


async def send(broker: RabbitBroker, *ids: str) -> None:
    for each in ids:
        await broker.publish({"number": 1}, "billing", headers={"ce-id": each, "ce-source": "/shop"})


async def test_a_subscriber_is_called_once_for_each_message(bills: sessionmaker[Session]) -> None:
    broker = RabbitBroker()

    @broker.subscriber("billing", ack_policy=AckPolicy.NACK_ON_ERROR)
    async def bill(sold: dict[str, Any], session: Annotated[Session, handled_once(inbox, bills)]) -> None:
        assert sold == {"number": 1}
        session.add(Bill())

    one, two = str(uuid4()), str(uuid4())
    async with TestRabbitBroker(broker, connect_only=False):
        await send(broker, one, one, two, one)
    with bills() as session:
        assert session.scalars(select(func.count()).select_from(Bill)).one() == 2


async def test_what_a_subscriber_that_raises_has_done_is_rolled_back(bills: sessionmaker[Session]) -> None:
    broker = RabbitBroker()
    failures = [RuntimeError("no paper")]

    @broker.subscriber("billing", ack_policy=AckPolicy.NACK_ON_ERROR)
    async def bill(sold: dict[str, Any], session: Annotated[Session, handled_once(inbox, bills)]) -> None:
        session.add(Bill())
        if failures:
            raise failures.pop()

    one = str(uuid4())
    async with TestRabbitBroker(broker, connect_only=False):
        with pytest.raises(RuntimeError, match="no paper"):
            await send(broker, one)
        with bills() as session:
            assert session.scalars(select(func.count()).select_from(Bill)).one() == 0
        await send(broker, one, one)
    with bills() as session:
        assert session.scalars(select(func.count()).select_from(Bill)).one() == 1


async def test_an_asynchronous_session_does_the_same(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(async_engine)
    broker = RabbitBroker()

    @broker.subscriber("billing", ack_policy=AckPolicy.NACK_ON_ERROR)
    async def bill(sold: dict[str, Any], session: Annotated[AsyncSession, async_handled_once(inbox, sessions)]) -> None:
        session.add(Bill())

    one = str(uuid4())
    async with TestRabbitBroker(broker, connect_only=False):
        await send(broker, one, one)
    async with sessions() as session:
        assert (await session.scalars(select(func.count()).select_from(Bill))).one() == 1


@pytest.mark.parametrize("ack_policy", [AckPolicy.REJECT_ON_ERROR, AckPolicy.ACK, AckPolicy.ACK_FIRST])
async def test_a_subscriber_that_loses_what_is_rolled_back_is_told_of_once(
    bills: sessionmaker[Session], ack_policy: AckPolicy
) -> None:
    broker = RabbitBroker()

    @broker.subscriber("billing", ack_policy=ack_policy)
    async def bill(sold: dict[str, Any], session: Annotated[Session, handled_once(inbox, bills)]) -> None: ...

    async with TestRabbitBroker(broker, connect_only=False):
        with pytest.warns(AcknowledgementWarning, match="Declare it with ack_policy=AckPolicy.NACK_ON_ERROR") as caught:
            await send(broker, str(uuid4()), str(uuid4()))
    ((subscriber, policy),) = [(each.message.subscriber, each.message.ack_policy) for each in caught]  # type: ignore[union-attr]
    assert (subscriber, policy) == ("Bill", ack_policy.name)


async def test_no_policy_is_the_one_that_loses(bills: sessionmaker[Session]) -> None:
    broker = RabbitBroker()

    @broker.subscriber("billing")
    async def bill(sold: dict[str, Any], session: Annotated[Session, handled_once(inbox, bills)]) -> None: ...

    async with TestRabbitBroker(broker, connect_only=False):
        with pytest.warns(AcknowledgementWarning, match="REJECT_ON_ERROR"):
            await send(broker, str(uuid4()))
