"""Who, why, and what led to it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from sa_eventsource import EventContext, EventContextLostError, EventPayloadError, RecordedEvent, event_context
from sa_eventsource.events import current_context
from sa_eventsource.testing import recorded
from tests.bank import Closed


def closing(correlation_id: UUID | None) -> RecordedEvent[Closed]:
    (made,) = recorded(Closed())
    return replace(made, correlation_id=correlation_id)


def test_without_a_block_the_context_is_empty() -> None:
    assert current_context() == EventContext()


def test_blocks_nest_and_the_inner_goes_before() -> None:
    outer, inner = uuid4(), uuid4()
    with event_context(correlation_id=outer, user="ann", reason="x"):
        with event_context(correlation_id=inner, reason="y") as context:
            assert context == current_context() == EventContext(inner, None, {"user": "ann", "reason": "y"})
        assert current_context() == EventContext(outer, None, {"user": "ann", "reason": "x"})
    assert current_context() == EventContext()


def test_a_block_ends_with_its_exception() -> None:
    with pytest.raises(ZeroDivisionError), event_context(user="ann"):
        raise ZeroDivisionError
    assert current_context() == EventContext()


def test_a_cause_gives_its_id_and_its_correlation() -> None:
    correlation = uuid4()
    with event_context(caused_by=(cause := closing(correlation))) as context:
        assert (context.causation_id, context.correlation_id) == (cause.event_id, correlation)
    with event_context(caused_by=(first := closing(None))) as context:
        assert (context.causation_id, context.correlation_id) == (first.event_id, first.event_id)


@pytest.mark.parametrize("name", ["correlation_id", "causation_id"])
def test_an_id_must_be_a_uuid(name: str) -> None:
    arguments: dict[str, Any] = {name: "not one"}
    with pytest.raises(TypeError, match=name), event_context(**arguments):
        pass


@pytest.mark.parametrize("wrong", [UUID(int=1), "x", Closed()])
def test_a_cause_is_an_event_as_read(wrong: Any) -> None:
    with pytest.raises(TypeError, match="RecordedEvent"), event_context(caused_by=wrong):
        pass


def test_metadata_is_checked_when_it_is_set() -> None:
    with pytest.raises(EventPayloadError), event_context(user="a\x00"):
        pass


def test_a_thread_starts_without_context() -> None:
    seen: list[EventContext] = []
    with event_context(user="ann"):
        thread = threading.Thread(target=lambda: seen.append(current_context()))
        thread.start()
        thread.join()
    assert seen == [EventContext()]


async def test_tasks_have_contexts_of_their_own() -> None:
    async def work(user: str) -> Any:
        with event_context(user=user):
            await asyncio.sleep(0.001)
            return current_context().metadata["user"]

    assert await asyncio.gather(*(work(str(number)) for number in range(5))) == ["0", "1", "2", "3", "4"]


async def test_a_task_and_a_call_in_a_thread_take_the_context_along() -> None:
    async def ask() -> EventContext:
        return current_context()

    with event_context(user="ann") as context:
        assert await asyncio.create_task(ask()) == context
        assert await asyncio.to_thread(current_context) == context
        with ThreadPoolExecutor() as pool:
            assert pool.submit(copy_context().run, current_context).result() == context
            assert pool.submit(current_context).result() == EventContext()


def test_a_block_that_ends_in_another_thread_says_that_nobody_saw_it() -> None:
    block = event_context(correlation_id=uuid4(), user="ann", reason="x")
    with ThreadPoolExecutor() as pool:
        pool.submit(copy_context().run, block.__enter__).result()
    assert current_context() == EventContext()
    with pytest.raises(EventContextLostError, match=r"\(user, reason\)") as caught:
        block.__exit__(None, None, None)
    assert caught.value.metadata_keys == ("user", "reason")
    assert current_context() == EventContext()


def test_a_block_that_ends_in_another_thread_keeps_the_error_of_the_application() -> None:
    block = event_context(correlation_id=uuid4())
    with ThreadPoolExecutor() as pool:
        pool.submit(copy_context().run, block.__enter__).result()
    error = ZeroDivisionError()
    assert not block.__exit__(ZeroDivisionError, error, None)
    assert "(the ids)" in error.__notes__[0]


def test_metadata_is_taken_as_it_will_be_read() -> None:
    tags = ["a"]
    with event_context(tags=tags, pair=(1, (2,)), nested={"t": ("x",)}) as context:
        tags.append("b")
        assert context.metadata == {"tags": ["a"], "pair": [1, [2]], "nested": {"t": ["x"]}}


def test_metadata_that_python_does_not_read_again_is_refused() -> None:
    with pytest.raises(EventPayloadError, match="read back"), event_context(number=10**4500):
        pass
