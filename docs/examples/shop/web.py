"""The HTTP interface: commands go in, read models come out."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import Engine, select
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource import Commands, EventSourceError, ProblemDetails, Worker, event_context, problem_details
from sa_eventsource.repository import EventSourcedRepository
from shop import loyalty
from shop.bus import running_bus
from shop.ordering import Base, Order, OrderStatus, PayOrder, PlaceOrder
from shop.views import Customers, OrderList


class OrderRow(BaseModel, from_attributes=True):
    """A row of the list."""

    id: UUID
    customer: str
    total: Decimal
    status: OrderStatus


class Entry(BaseModel):
    """A line of an order's history."""

    version: int
    what: str
    when: str
    who: str


class Customer(BaseModel):
    """What is known of a customer: by the shop, and by the loyalty service."""

    orders: int
    spent: Decimal
    points: int


def commands_of(request: Request) -> Commands:
    """Get what handles the application's commands."""
    found: Commands = request.app.state.commands
    return found


def session_of(request: Request) -> Iterator[Session]:
    """Open a session for a request."""
    with Session(request.app.state.engine) as session:
        yield session


CommandsOfApp: TypeAlias = Annotated[Commands, Depends(commands_of)]
SessionOfRequest: TypeAlias = Annotated[Session, Depends(session_of)]
IdempotencyKey: TypeAlias = Annotated[UUID, Header(description="A UUID of the client's; the same one for a repetition")]

router = APIRouter()


@router.post("/orders", status_code=201)
def place(order: PlaceOrder, commands: CommandsOfApp, idempotency_key: IdempotencyKey, user: Annotated[str, Header()]) -> UUID:
    """Place an order; the answer comes when the list shows it."""
    with event_context(user=user):
        return commands.handle(order, command_id=idempotency_key, wait_for=OrderList).result


@router.post("/orders/{order_id}/payment", status_code=204)
def pay(order_id: UUID, payment_id: str, commands: CommandsOfApp, idempotency_key: IdempotencyKey) -> None:
    """Pay an order."""
    with event_context(user="bank"):
        commands.handle(PayOrder(order_id=order_id, payment_id=payment_id), command_id=idempotency_key)


@router.get("/orders")
def orders(session: SessionOfRequest, status: OrderStatus | None = None) -> list[OrderRow]:
    """List orders."""
    found = select(OrderList).order_by(OrderList.id)
    if status is not None:
        found = found.where(OrderList.status == status)
    return [OrderRow.model_validate(row) for row in session.scalars(found)]


@router.get("/orders/{order_id}/history")
def history(order_id: UUID, session: SessionOfRequest) -> list[Entry]:
    """Tell what happened to an order, when, and who did it."""
    events = EventSourcedRepository(session, Order).history(order_id)
    return [
        Entry(
            version=recorded.version,
            what=type(recorded.event).__name__,
            when=recorded.occurred_at.isoformat(),
            who=str(recorded.metadata.get("user", "nobody")),
        )
        for recorded in events
    ]


@router.get("/customers/{name}")
def customer(name: str, session: SessionOfRequest) -> Customer:
    """Tell what is known of a customer."""
    row = session.get_one(Customers, name)
    points = session.get(loyalty.Points, name)
    return Customer(orders=row.orders, spent=row.spent, points=points.points if points is not None else 0)


def problem(_: Request, error: Exception) -> JSONResponse:
    """Answer an error as RFC 9457 has it."""
    details = problem_details(error)
    return JSONResponse(details.body, details.status, media_type=ProblemDetails.media_type)


def create_app(engine: Engine) -> FastAPI:
    """Make the application on a database that has the tables."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loyalty.sessions.configure(bind=engine)
        async with running_bus():
            with Worker(engine, Base):  # here in a thread; in production `sa-eventsource run` in a process of its own
                yield

    app = FastAPI(title="Shop", lifespan=lifespan)
    app.state.engine = engine
    app.state.commands = Commands(sessionmaker(engine), Base)
    app.include_router(router)
    for kind in (EventSourceError, NoResultFound, DBAPIError):
        app.add_exception_handler(kind, problem)
    return app
