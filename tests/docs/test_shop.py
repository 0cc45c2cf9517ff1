"""The example of a shop: started with one command, and asked over HTTP what a customer's browser would ask."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from sqlalchemy import create_engine, inspect

from tests.processes import end, finish, start
from tests.publishing.brokers import PORTS, needs
from tests.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def run_shop(database_url: str, log: Path, **environment: str) -> tuple[subprocess.Popen[str], httpx.Client]:
    """Start the shop on a port of its own."""
    with log.open("w") as output:
        shop = start(
            [sys.executable, "-m", "shop", database_url, "--port", "0"],
            cwd=EXAMPLES,
            env={**os.environ, "PYTHONPATH": str(EXAMPLES.parents[1]), **environment},
            stdout=output,
            stderr=output,
        )
    wait_until(lambda: "running on" in log.read_text() or shop.poll() is not None)
    found = re.search(r"running on (http://\S+)", log.read_text())
    assert found, log.read_text()
    return shop, httpx.Client(base_url=found[1], timeout=30)


ORDER = {"customer": "ann", "lines": [{"article": "tea", "quantity": 2, "price": "4.25"}]}


def check_shop(shop: httpx.Client) -> None:
    """Order, pay, and see what comes of it."""
    once = {"idempotency-key": str(uuid4()), "user": "ann"}
    with ThreadPoolExecutor(2) as pool:
        placed = list(pool.map(lambda _: shop.post("/orders", json=ORDER, headers=once), range(2)))
    assert [each.status_code for each in placed] == [201, 201], [each.text for each in placed]
    (order_id,) = {UUID(each.json()) for each in placed}
    assert shop.get("/orders", params={"status": "placed"}).json() == [
        {"id": str(order_id), "customer": "ann", "total": "8.50", "status": "placed"}
    ]

    payment = f"/orders/{order_id}/payment"

    def pay(payment_id: str) -> httpx.Response:
        return shop.post(payment, params={"payment_id": payment_id}, headers={"idempotency-key": str(uuid4())})

    with ThreadPoolExecutor(3) as pool:
        paid, *others = sorted(pool.map(pay, ("P-1", "P-2", "P-3")), key=lambda each: each.status_code)
    assert paid.status_code == 204
    for again in others:
        assert (again.status_code, again.json()["detail"]) == (422, f"order {order_id} is paid")

    wait_until(lambda: shop.get("/customers/ann").json()["points"])
    assert shop.get("/customers/ann").json() == {"orders": 1, "spent": "8.50", "points": 8}
    assert [(each["what"], each["who"]) for each in shop.get(f"/orders/{order_id}/history").json()] == [
        ("OrderPlaced", "ann"),
        ("OrderPaid", "bank"),
    ]
    missing = shop.get("/customers/nobody")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")


def test_it_serves_from_order_to_loyalty_points(postgres_database_url: str, tmp_path: Path) -> None:
    process, shop = run_shop(postgres_database_url, tmp_path / "log")
    with shop:
        check_shop(shop)
    process.terminate()
    process.wait(timeout=60)
    engine = create_engine(postgres_database_url)
    assert "shop_example" not in inspect(engine).get_schema_names()
    engine.dispose()


RABBITMQ = f"amqp://guest:guest@127.0.0.1:{PORTS['rabbitmq']}/"


async def forget_messages() -> None:
    """Delete what the example declares in RabbitMQ, which outlives it."""
    async with RabbitBroker(RABBITMQ, logger=None) as broker:
        queue = await broker.declare_queue(RabbitQueue("loyalty", durable=True))
        exchange = await broker.declare_exchange(RabbitExchange("shop", type=ExchangeType.TOPIC, durable=True))
        await queue.delete(if_unused=False, if_empty=False)
        await exchange.delete()


@pytest.mark.slow
def test_payments_go_over_rabbitmq(postgres_database_url: str, tmp_path: Path) -> None:
    needs("rabbitmq")
    asyncio.run(forget_messages())
    process, shop = run_shop(postgres_database_url, tmp_path / "log", SHOP_BROKER=RABBITMQ)
    try:
        with shop:
            check_shop(shop)
    finally:
        end(process)
        asyncio.run(forget_messages())


def test_its_own_tests_pass(postgres_url: str) -> None:
    """As a reader runs them: with the plugin, on the server of the tests."""
    is_installed = any(each.value == "_sa_eventsource_pytest" for each in entry_points(group="pytest11"))
    plugin = () if is_installed else ("-p", "_sa_eventsource_pytest")
    options = (
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:pytest_alembic",
        "--rootdir=.",
        "-c",
        os.devnull,
        f"--eventsource-url={postgres_url}",
    )
    done = finish(
        [sys.executable, "-m", "pytest", *plugin, *options, "--eventsource-base=shop.ordering:Base", "shop"],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parents[1])])},
    )
    assert done.returncode == 0, done.stdout
    assert "8 passed" in done.stdout
