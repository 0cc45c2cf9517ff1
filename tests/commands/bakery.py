"""A bakery that takes orders by commands."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    Command,
    DomainEvent,
    DomainRuleError,
    EventSourceOptions,
    ReadModel,
    applies,
    command_handler,
    map_from_event,
)


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class CakeOrdered(DomainEvent):
    __event_type__ = "bakery.CakeOrdered"
    flavour: str
    price: Decimal


class CandleAdded(DomainEvent):
    __event_type__ = "bakery.CandleAdded"


class CakeEaten(DomainEvent):
    __event_type__ = "bakery.CakeEaten"


class CakeIsGone(DomainRuleError):
    problem_type = "https://bakery.example/problems/cake-is-gone"

    def __init__(self, cake_id: UUID) -> None:
        self.cake_id = cake_id
        super().__init__(f"cake {cake_id} is eaten")


class Cake(AggregateRoot[UUID], Base):
    candles: int = 0
    is_eaten: bool = False

    @applies(CakeOrdered)
    def _ordered(self, event: CakeOrdered) -> None:
        """Nothing that the rules need."""

    @applies(CandleAdded)
    def _candle(self, event: CandleAdded) -> None:
        self.candles += 1

    @applies(CakeEaten)
    def _eaten(self, event: CakeEaten) -> None:
        self.is_eaten = True


class CakeList(ReadModel, Base):
    __projection_name__ = "bakery_cake_list"

    id: Mapped[UUID]
    flavour: Mapped[str] = map_from_event(CakeOrdered)


class Note(Base):
    """A row that says how often something was done."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class OrderCake(Command[UUID]):
    __command_type__ = "bakery.OrderCake"
    flavour: str
    price: Decimal = Decimal(20)


class AddCandle(Command[int]):
    __command_type__ = "bakery.AddCandle"
    cake_id: UUID


class EatCake(BaseModel):
    """A plain Pydantic model is a command too."""

    __command_type__ = "bakery.EatCake"
    cake_id: UUID


class WriteNote(Command[None]):
    __command_type__ = "bakery.WriteNote"
    text: str
    fails: bool = False


class CountNotes(Command[int]):
    __command_type__ = "bakery.CountNotes"


@command_handler(OrderCake)
def order_cake(command: OrderCake, session: Session) -> UUID:
    cake = Cake()
    cake.apply_event(CakeOrdered(flavour=command.flavour, price=command.price))
    session.add(cake)
    return cake.id


@command_handler(AddCandle)
def add_candle(command: AddCandle, session: Session) -> int:
    cake = session.get_one(Cake, command.cake_id)
    if cake.is_eaten:
        raise CakeIsGone(cake.id)
    cake.apply_event(CandleAdded())
    return cake.candles


@command_handler(EatCake)
def eat_cake(command: EatCake, session: Session) -> str:
    session.get_one(Cake, command.cake_id).apply_event(CakeEaten())
    return "eaten"


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
