# pyright: reportInvalidTypeForm=false
"""FastAPI: an ``AsyncSession`` for each request, and a conflict answered with 409."""

# No "from __future__ import annotations": FastAPI reads the annotations of the functions below, and one names a local.

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Any, Self

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sa_eventsource import AggregateRoot, ConcurrencyError, DomainEvent, EventRecord, applies

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from httpx import ASGITransport, AsyncClient
from pydantic import BaseModel

pytestmark = pytest.mark.asyncio


class Base(DeclarativeBase):
    """The application's base."""


class OrderPlaced(DomainEvent):
    """Somebody ordered."""

    __event_type__ = "fastapi.OrderPlaced"

    customer: str
    total: Decimal


class OrderPaid(DomainEvent):
    """The money came."""

    __event_type__ = "fastapi.OrderPaid"

    payment_id: str


class AlreadyPaidError(Exception):
    """An order is paid once."""


class Order(AggregateRoot, Base):
    """An order."""

    __aggregate_type__ = "fastapi.Order"

    customer: str = ""
    total: Decimal = Decimal(0)
    paid: bool = False

    @classmethod
    def place(cls, customer: str, total: Decimal) -> Self:
        """Order something."""
        order = cls()
        order.apply_event(OrderPlaced(customer=customer, total=total))
        return order

    def pay(self, payment_id: str) -> None:
        """Pay it."""
        if self.paid:
            raise AlreadyPaidError
        self.apply_event(OrderPaid(payment_id=payment_id))

    @applies(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> None:
        self.customer, self.total = event.customer, event.total

    @applies(OrderPaid)
    def _paid(self, _: OrderPaid) -> None:
        self.paid = True


class Payment(Base):
    """A table of the application's own."""

    __tablename__ = "fastapi_payments"

    payment_id: Mapped[str] = mapped_column(primary_key=True)
    order_id: Mapped[str]


class NewOrder(BaseModel):
    """What is posted to place an order."""

    customer: str
    total: Decimal


class NewPayment(BaseModel):
    """What is posted to pay."""

    payment_id: str


def make_app(engine: AsyncEngine, loaded: Callable[[], Awaitable[Any]] | None = None) -> FastAPI:
    """Make the application; *loaded* is awaited between loading an order and paying it."""
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def session_of_request() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    injected = Annotated[AsyncSession, Depends(session_of_request)]
    app = FastAPI()

    @app.exception_handler(ConcurrencyError)
    async def answer_conflict(_: Request, error: ConcurrencyError) -> JSONResponse:
        return JSONResponse({"detail": "changed meanwhile", "actual_version": error.actual_version}, status_code=409)

    @app.post("/orders", status_code=201)
    async def place(order: NewOrder, session: injected) -> dict[str, Any]:
        placed = Order.place(order.customer, order.total)
        session.add(placed)
        await session.commit()
        return {"id": placed.id, "version": placed.version}

    @app.get("/orders/{order_id}")
    async def show(order_id: str, session: injected) -> dict[str, Any]:
        order = await session.get(Order, order_id)
        if order is None:
            raise HTTPException(404)
        return {"customer": order.customer, "total": str(order.total), "paid": order.paid, "version": order.version}

    @app.get("/orders")
    async def show_all(session: injected) -> list[str]:
        return [order.customer for order in await session.scalars(select(Order).order_by(Order.id))]

    @app.post("/orders/{order_id}/payments")
    async def pay(order_id: str, payment: NewPayment, session: injected) -> dict[str, Any]:
        order = await session.get_one(Order, order_id)
        if loaded is not None:
            await session.commit()  # no transaction stays open while others are waited for
            await loaded()
        try:
            order.pay(payment.payment_id)
        except AlreadyPaidError as error:
            raise HTTPException(422, "already paid") from error
        session.add(Payment(payment_id=payment.payment_id, order_id=order_id))
        await session.commit()
        return {"version": order.version}

    return app


def client_of(app: FastAPI) -> AsyncClient:
    """Call the application without a network."""
    return AsyncClient(transport=ASGITransport(app), base_url="http://test")


@pytest.fixture
async def database(async_engine: AsyncEngine) -> AsyncEngine:
    """The application's tables, and the log's."""
    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    return async_engine


async def test_place_and_pay(database: AsyncEngine) -> None:
    """Each request has its session; state comes from the events."""
    async with client_of(make_app(database)) as client:
        placed = await client.post("/orders", json={"customer": "Ann", "total": "19.90"})
        assert (placed.status_code, placed.json()["version"]) == (201, 1)
        order_id = placed.json()["id"]
        assert (await client.post(f"/orders/{order_id}/payments", json={"payment_id": "p-1"})).json() == {"version": 2}
        shown = await client.get(f"/orders/{order_id}")
        assert shown.json() == {"customer": "Ann", "total": "19.90", "paid": True, "version": 2}
        assert (await client.get("/orders")).json() == ["Ann"]
        assert (await client.get("/orders/nobodys")).status_code == 404
        assert (await client.post(f"/orders/{order_id}/payments", json={"payment_id": "p-2"})).status_code == 422


async def test_of_two_payments_at_once_one_gets_409(database: AsyncEngine) -> None:
    """Both requests load the unpaid order before either pays; one wins, and the other's own row is not kept."""
    both_loaded = asyncio.Barrier(2)
    app = make_app(database, both_loaded.wait)
    async with client_of(app) as client:
        order_id = (await client.post("/orders", json={"customer": "Ann", "total": "19.90"})).json()["id"]
        answers = await asyncio.gather(
            *(client.post(f"/orders/{order_id}/payments", json={"payment_id": f"p-{number}"}) for number in (1, 2))
        )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    async with AsyncSession(database) as session:
        assert len((await session.scalars(select(Payment))).all()) == 1
        paid = select(EventRecord).where(EventRecord.event_type == "fastapi.OrderPaid")
        assert len((await session.scalars(paid)).all()) == 1
