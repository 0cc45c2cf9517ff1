"""A shop that takes orders by commands."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    Command,
    DomainRuleError,
    EventSourceOptions,
    ReadModel,
    command_handler,
    map_from_event,
)
from tests.shop import AnyOrder, NoteAdded, OrderCancelled, OrderPlaced, OrderStatus


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class Order(AnyOrder[UUID], Base):
    __aggregate_type__ = "commands.Order"


class OrderIsCancelled(DomainRuleError):
    problem_type = "https://shop.example/problems/order-is-cancelled"

    def __init__(self, order_id: UUID) -> None:
        self.order_id = order_id
        super().__init__(f"order {order_id} is cancelled")


class OrderList(ReadModel, Base):
    __projection_name__ = "commands_order_list"

    id: Mapped[UUID]
    customer_id: Mapped[str] = map_from_event(OrderPlaced)


class Note(Base):
    """A row that says how often something was done."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class PlaceOrder(Command[UUID]):
    __command_type__ = "ordering.PlaceOrder"
    customer_id: str
    total: Decimal = Decimal(20)


class Annotate(Command[int]):
    __command_type__ = "ordering.Annotate"
    order_id: UUID


class CancelOrder(BaseModel):
    """A plain Pydantic model is a command too."""

    __command_type__ = "ordering.CancelOrder"
    order_id: UUID


class WriteNote(Command[None]):
    __command_type__ = "ordering.WriteNote"
    text: str
    fails: bool = False


class CountNotes(Command[int]):
    __command_type__ = "ordering.CountNotes"


@command_handler(PlaceOrder)
def place_order(command: PlaceOrder, session: Session) -> UUID:
    order = Order()
    order.apply_event(OrderPlaced(customer_id=command.customer_id, total=command.total))
    session.add(order)
    return order.id


@command_handler(Annotate)
def annotate(command: Annotate, session: Session) -> int:
    order = session.get_one(Order, command.order_id)
    if order.status is OrderStatus.CANCELLED:
        raise OrderIsCancelled(order.id)
    order.apply_event(NoteAdded(text="urgent"))
    return len(order.notes)


@command_handler(CancelOrder)
def cancel_order(command: CancelOrder, session: Session) -> str:
    session.get_one(Order, command.order_id).apply_event(OrderCancelled(reason="asked"))
    return "cancelled"


@command_handler(WriteNote)
def write_note(command: WriteNote, session: Session) -> None:
    session.add(Note(text=command.text))
    if command.fails:
        raise ValueError("the ink is dry")


@command_handler(CountNotes)
async def count_notes(command: CountNotes, session: AsyncSession) -> int:
    session.add(Note(text="counted"))
    await session.flush()
    return len((await session.scalars(Note.__table__.select())).all())


def notes(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return sorted(session.scalars(select(Note.text)))
