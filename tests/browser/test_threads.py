"""Pages wait for the database in threads of the browser's own: nothing of the application waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from anyio import to_thread
from httpx import ASGITransport, AsyncClient
from sqlalchemy import Engine, event
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from sa_eventsource.browser import Access, everyone
from sa_eventsource.browser.threads import MOST, in_thread
from tests.browser.visiting import browser_of
from tests.orders import Base

PATIENCE = 60


class Gate:
    """Where threads wait until the test lets them go on."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.lock = threading.Lock()
        self.waiting = self.most = 0

    def wait(self) -> None:
        with self.lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        assert self.opened.wait(PATIENCE)
        with self.lock:
            self.waiting -= 1


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that threads do."""
    async with asyncio.timeout(PATIENCE):
        while not is_so():  # noqa: ASYNC110 - threads set no asyncio.Event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def client_of(app: Starlette) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client


@pytest.mark.parametrize("what", ["statements", "authorize"])
def test_the_application_has_its_threads_while_pages_wait(sqlite_engine: Engine, what: str) -> None:
    Base.metadata.create_all(sqlite_engine)
    gate = Gate()

    def authorize(request: Request) -> Access:
        gate.wait()
        return Access()

    if what == "statements":
        event.listen(sqlite_engine, "before_cursor_execute", lambda *_: gate.wait())
    browser = browser_of(Base, sqlite_engine, authorize=authorize if what == "authorize" else everyone)
    own = Route("/own", lambda _request: PlainTextResponse("ok"))
    app = Starlette(routes=[Mount("/events", browser), own])

    async def ask() -> None:
        to_thread.current_default_thread_limiter().total_tokens = 1
        async with client_of(app) as client:
            page = asyncio.create_task(client.get("/events/log"))
            try:
                await until(lambda: gate.waiting == 1)
                async with asyncio.timeout(PATIENCE):
                    assert (await client.get("/own")).text == "ok"
                assert not page.done()
            finally:
                gate.opened.set()
                answer = await page
            assert answer.status_code == 200

    asyncio.run(ask())


def test_so_many_pages_are_made_at_once_and_the_others_wait() -> None:
    for _ in range(2):  # each in an event loop of its own
        gate = Gate()

        async def ask(gate: Gate = gate) -> None:
            pages = [asyncio.create_task(in_thread(gate.wait)) for _ in range(MOST + 3)]
            await until(lambda: gate.waiting == MOST)
            gate.opened.set()
            await asyncio.gather(*pages)

        asyncio.run(ask())
        assert (gate.most, gate.waiting) == (MOST, 0)
