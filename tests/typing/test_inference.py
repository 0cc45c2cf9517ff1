"""What type checkers make of an application's code. The assertions are theirs; running the functions would need a database."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, assert_type
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, MappedAsDataclass, Session

from sa_eventsource import (
    AggregateRoot,
    AsyncCommands,
    AsyncEventSourcedRepository,
    AsyncEventStore,
    Command,
    Commands,
    DomainEvent,
    EventQuery,
    EventRecord,
    EventSourcedRepository,
    EventStore,
    Handled,
    RecordedEvent,
    applies,
    command_handler,
    event_record,
)
from sa_eventsource.session.retry import retry_on_conflict


class Base(DeclarativeBase):
    pass


class TypedPlaced(DomainEvent):
    total: Decimal


class TypedPaid(DomainEvent):
    pass


class TypedSent(DomainEvent):
    pass


class TypedOrder(AggregateRoot, Base):
    total: Decimal = Decimal(0)

    @applies(TypedPlaced)
    def _placed(self, event: TypedPlaced) -> None:
        assert_type(event.total, Decimal)
        self.total = event.total

    @applies(TypedPaid)
    def _paid(self, event: TypedPaid) -> None:
        """Change nothing."""


class TypedInvoice(AggregateRoot[UUID], Base):
    __ignored_events__ = (TypedPaid,)


class TypedDataclassBase(MappedAsDataclass, DeclarativeBase):
    pass


class TypedParcel(AggregateRoot, TypedDataclassBase, init=False):
    weight: int = 0


def test_an_aggregate_on_a_dataclass_base_is_made_by_its_id() -> None:
    parcel = TypedParcel(id="p-1")
    assert_type(parcel.id, str)
    assert (parcel.id, parcel.version, parcel.weight) == ("p-1", 0, 0)


def of_assignments(order: TypedOrder, invoice: TypedInvoice) -> None:
    order.id = "2"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    order.version = 2  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    invoice.id = UUID(int=2)  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]


def of_instances(order: TypedOrder, invoice: TypedInvoice) -> None:
    assert_type(order.id, str)
    assert_type(order.version, int)
    assert_type(order.total, Decimal)
    assert_type(invoice.id, UUID)
    assert_type(order.pending_events, tuple[DomainEvent, ...])


def of_sessions(session: Session) -> None:
    assert_type(session.get(TypedOrder, "1"), TypedOrder | None)
    statement = select(TypedOrder).where(TypedOrder.id == "1", TypedOrder.version > 2)
    assert_type(statement, Select[TypedOrder])
    assert_type(session.scalars(statement).all()[0], TypedOrder)
    assert_type(session.scalars(select(EventRecord)).one().event_type, str)
    assert_type(event_record(Base), type[EventRecord])


def of_repositories(session: Session) -> None:
    repository = EventSourcedRepository(session, TypedOrder)
    assert_type(repository.get("1"), TypedOrder)
    assert_type(repository.get_or_none("1"), TypedOrder | None)
    assert_type(repository.load_at_version("1", 1), TypedOrder)


def of_queries(session: Session) -> None:
    query = EventStore(session).events
    assert_type(query.of(TypedOrder, "1").backward().limit(3), EventQuery[DomainEvent])
    assert_type(query.of_type(TypedPlaced).all(), list[RecordedEvent[TypedPlaced]])
    for recorded in query.of_type(TypedPlaced):
        assert_type(recorded.event, TypedPlaced)
    assert_type(query.of_type(TypedPlaced, TypedPaid).first(), RecordedEvent[TypedPlaced | TypedPaid] | None)
    assert_type(query.of_type(TypedPlaced, TypedPaid, TypedSent).all(), list[RecordedEvent[TypedPlaced | TypedPaid | TypedSent]])
    several: tuple[type[TypedPlaced], ...] = (TypedPlaced,)
    assert_type(query.of_type(*several).all(), list[RecordedEvent[TypedPlaced]])
    store = EventStore(session)
    assert_type(store.follow("all", batch=10), list[RecordedEvent[DomainEvent]])
    assert_type(store.follow("placed", TypedPlaced), list[RecordedEvent[TypedPlaced]])


async def of_async_code(session: AsyncSession) -> None:
    assert_type(await AsyncEventSourcedRepository(session, TypedOrder).get("1"), TypedOrder)
    assert_type(await AsyncEventStore(session).events.of_type(TypedPlaced).all(), list[RecordedEvent[TypedPlaced]])
    both = AsyncEventStore(session).events.of_type(TypedPlaced, TypedPaid)
    assert_type(await both.all(), list[RecordedEvent[TypedPlaced | TypedPaid]])
    assert_type(await AsyncEventStore(session).follow("placed", TypedPlaced), list[RecordedEvent[TypedPlaced]])
    async for recorded in AsyncEventStore(session).events.of_type(TypedPlaced):
        assert_type(recorded.event.total, Decimal)


class TypedPlace(Command[UUID]):
    total: Decimal


class TypedPlain(BaseModel):
    pass


@command_handler(TypedPlace)
def typed_place(command: TypedPlace, session: Session) -> UUID:
    assert_type(command.total, Decimal)
    return UUID(int=1)


@command_handler(TypedPlain)
async def typed_plain(command: TypedPlain, session: AsyncSession) -> int:
    return 1


async def of_commands(commands: Commands, async_commands: AsyncCommands, session: Session) -> None:
    assert_type(commands.handle(TypedPlace(total=Decimal(1))), Handled[UUID])
    assert_type(commands.handle(TypedPlace(total=Decimal(1)), command_id=UUID(int=1)).result, UUID)
    assert_type((await async_commands.handle(TypedPlace(total=Decimal(1)))).result, UUID)
    assert_type(commands.handle(TypedPlain()), Handled[Any])
    assert_type(typed_place(TypedPlace(total=Decimal(1)), session), UUID)


@retry_on_conflict()
def pay(order_id: str) -> int:
    return len(order_id)


@retry_on_conflict(attempts=3)
async def pay_later(order_id: str) -> int:
    return len(order_id)


async def test_decorated_functions_keep_their_types() -> None:
    assert_type(pay("1"), int)
    assert_type(await pay_later("1"), int)
    assert pay("12") == await pay_later("34") == 2
