# pyright: reportInvalidTypeForm=false
"""Who and why in FastAPI: which dependencies bring ``event_context`` to the events, and what the others say."""

# No "from __future__ import annotations": FastAPI reads the annotations of the functions below, and some name locals.

from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from typing import Annotated, Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from sa_eventsource import EventContext, EventContextLostError, EventStore, event_context
from sa_eventsource.events import current_context
from tests.orders import Base, Order

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from httpx import ASGITransport, AsyncClient

pytestmark = pytest.mark.asyncio


class WrongPersonError(Exception):
    """An error of the application."""


def in_threads() -> Iterator[None]:
    """Open the block in a plain generator, which FastAPI runs in threads."""
    with event_context(user="ann"):
        yield


async def in_the_task() -> AsyncIterator[None]:
    """Open the block in an asynchronous generator, which FastAPI runs in the request's own task."""
    with event_context(user="ann"):
        yield


@pytest.fixture
def orders() -> Iterator[Engine]:
    """An engine that all threads may use."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


async def ask(app: FastAPI) -> Any:
    """Ask an application, and raise what it raises."""
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        return (await client.get("/")).json()


def application(endpoint: Callable[..., Any], *dependencies: Any) -> FastAPI:
    """Make an application with one endpoint."""
    app = FastAPI()
    app.get("/", dependencies=[Depends(each) for each in dependencies])(endpoint)
    return app


def plain() -> dict[str, Any]:
    """Tell the context from a thread."""
    return dict(current_context().metadata)


async def asynchronous() -> dict[str, Any]:
    """Tell the context from the request's task."""
    return dict(current_context().metadata)


@pytest.mark.parametrize("endpoint", [plain, asynchronous])
async def test_an_asynchronous_dependency_brings_the_context(endpoint: Callable[..., Any]) -> None:
    app = application(endpoint, in_the_task)
    assert [await ask(app), await ask(app)] == [{"user": "ann"}] * 2
    assert current_context() == EventContext()


@pytest.mark.parametrize("endpoint", [plain, asynchronous])
async def test_a_plain_generator_loses_the_context_and_says_so(endpoint: Callable[..., Any]) -> None:
    with pytest.raises(EventContextLostError, match='"async def"') as caught:
        await ask(application(endpoint, in_threads))
    assert caught.value.metadata_keys == ("user",)
    assert 'session.info["event_context"]' in str(caught.value)


async def test_an_error_of_the_application_is_not_replaced() -> None:
    def failing() -> None:
        raise WrongPersonError

    with pytest.raises(WrongPersonError) as caught:
        await ask(application(failing, in_threads))
    assert any("event_context" in note for note in caught.value.__notes__)

    def refusing() -> None:
        raise HTTPException(409, "no")

    assert await ask(application(refusing, in_threads)) == {"detail": "no"}


async def test_a_dependency_that_depends_on_the_block_gets_the_context() -> None:
    def user(_: Annotated[None, Depends(in_the_task)]) -> dict[str, Any]:
        return dict(current_context().metadata)

    def endpoint(found: Annotated[dict[str, Any], Depends(user)]) -> dict[str, Any]:
        return found

    assert await ask(application(endpoint)) == {"user": "ann"}


async def test_the_session_brings_the_context_from_a_plain_dependency(orders: Engine) -> None:
    def get_session() -> Iterator[Session]:
        with Session(orders) as session:
            session.info["event_context"] = EventContext(metadata={"user": "ann"})
            yield session

    def endpoint(session: Annotated[Session, Depends(get_session)]) -> None:
        session.add(Order.place())
        session.commit()

    await ask(application(endpoint))
    with Session(orders) as session:
        assert [each.metadata for each in EventStore(session).events] == [{"user": "ann"}]


async def test_a_block_within_an_endpoint_needs_nothing() -> None:
    def endpoint() -> dict[str, Any]:
        with event_context(user="bob"):
            return plain()

    assert await ask(application(endpoint, in_the_task)) == {"user": "bob"}


async def test_a_background_task_takes_what_it_needs_along() -> None:
    found: list[dict[str, Any]] = []

    def work() -> None:
        found.append(plain())

    def endpoint(tasks: BackgroundTasks) -> None:
        tasks.add_task(copy_context().run, work)

    await ask(application(endpoint, in_the_task))
    assert found == [{"user": "ann"}]
    assert current_context() == EventContext()


async def test_a_stream_of_a_plain_generator_loses_the_context_and_says_so() -> None:
    def lines() -> Iterator[str]:
        with event_context(user="ann"):
            yield "1"

    def endpoint() -> StreamingResponse:
        return StreamingResponse(lines())

    with pytest.raises(EventContextLostError):
        await ask(application(endpoint))
