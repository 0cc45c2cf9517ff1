# pyright: reportInvalidTypeForm=false
"""FastAPI: an ``AsyncSession`` for each request, and a conflict answered with 409."""

# No "from __future__ import annotations": FastAPI reads the annotations of the functions below, and one names a local.

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from sa_eventsource import AsyncEventStore, ConcurrencyError
from tests.orders import Base, Invoice, Order
from tests.shop import OrderAlreadyPaidError, OrderPaid

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from httpx import ASGITransport, AsyncClient
from pydantic import BaseModel

pytestmark = pytest.mark.asyncio


class NewOrder(BaseModel):
    """What is posted to place an order."""

    customer_id: str


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
        placed = Order.place(order.customer_id)
        session.add(placed)
        await session.commit()
        return {"id": placed.id, "version": placed.version}

    @app.get("/orders/{order_id}")
    async def show(order_id: str, session: injected) -> dict[str, Any]:
        order = await session.get(Order, order_id)
        if order is None:
            raise HTTPException(404)
        return {"customer_id": order.customer_id, "total": str(order.total), "status": order.status.value, "version": order.version}

    @app.get("/orders")
    async def show_all(session: injected) -> list[str | None]:
        return [order.customer_id for order in await session.scalars(select(Order).order_by(Order.id))]

    @app.post("/orders/{order_id}/payments")
    async def pay(order_id: str, payment: NewPayment, session: injected) -> dict[str, Any]:
        order = await session.get_one(Order, order_id)
        if loaded is not None:
            await session.commit()  # no transaction stays open while others are waited for
            await loaded()
        try:
            order.pay(payment.payment_id)
        except OrderAlreadyPaidError as error:
            raise HTTPException(422, "already paid") from error
        session.add(Invoice(order_id=order_id))
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
        placed = await client.post("/orders", json={"customer_id": "Ann"})
        assert (placed.status_code, placed.json()["version"]) == (201, 1)
        order_id = placed.json()["id"]
        assert (await client.post(f"/orders/{order_id}/payments", json={"payment_id": "p-1"})).json() == {"version": 2}
        shown = await client.get(f"/orders/{order_id}")
        assert shown.json() == {"customer_id": "Ann", "total": "43.30", "status": "paid", "version": 2}
        assert (await client.get("/orders")).json() == ["Ann"]
        assert (await client.get("/orders/nobodys")).status_code == 404
        assert (await client.post(f"/orders/{order_id}/payments", json={"payment_id": "p-2"})).status_code == 422


async def test_of_two_payments_at_once_one_gets_409(database: AsyncEngine) -> None:
    """Both requests load the unpaid order before either pays; one wins, and the other's own row is not kept."""
    both_loaded = asyncio.Barrier(2)
    app = make_app(database, both_loaded.wait)
    async with client_of(app) as client:
        order_id = (await client.post("/orders", json={"customer_id": "Ann"})).json()["id"]
        answers = await asyncio.gather(
            *(client.post(f"/orders/{order_id}/payments", json={"payment_id": f"p-{number}"}) for number in (1, 2))
        )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    async with AsyncSession(database) as session:
        assert await session.scalar(select(func.count()).select_from(Invoice)) == 1
        assert len(await AsyncEventStore(session, Base).events.of_type(OrderPaid).all()) == 1
