"""A message that has the broker close the connection is found and refused; a broker that is away, or restarted, only delays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import uuid4

import pytest

from sa_eventsource.publishing.messages import Message
from sa_eventsource.publishing.outcomes import Delayed, InDoubt, Outcome, Refused
from sa_eventsource.publishing.suspects import Suspects

LOST = InDoubt("the connection is lost")
BLAMED = InDoubt("frame too large", is_blamed=True)
AWAY = Delayed("nobody is there")


def message(name: str) -> Message:
    return Message(uuid4(), ("Till", name), {}, b"{}", "x", name, {})


A, B, C, D = MESSAGES = [message(name) for name in "abcd"]


class Broker:
    """Confirms what it is sent, but where it is told to close the connection."""

    def __init__(self, closes: Callable[[Message], InDoubt | None] = lambda _: None) -> None:
        self.closes = closes
        self.restarts = 0
        self.is_away = False
        self.confirmed: list[str] = []
        self.suspects = Suspects()

    async def send(self, *messages: Message) -> list[Outcome]:
        return list(await self.suspects.send(messages, self._together, self._alone))

    async def _alone(self, message: Message) -> Outcome:
        (outcome,) = await self._together([message])
        return outcome

    async def _together(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        if self.is_away:
            return [AWAY] * len(messages)
        if self.restarts:
            self.restarts -= 1
            return [LOST] * len(messages)
        closing = [outcome for outcome in map(self.closes, messages) if outcome is not None]
        if closing:
            return [closing[0]] * len(messages)
        self.confirmed += [each.stream[1] for each in messages]
        return [None] * len(messages)


async def test_one_that_the_broker_blames_is_refused_at_once_and_the_others_arrive() -> None:
    broker = Broker(lambda each: BLAMED if each in (B, D) else None)
    assert await broker.send(*MESSAGES) == [None, Refused("frame too large"), None, Refused("frame too large")]
    assert broker.confirmed == ["a", "c"]
    assert await broker.send(A, C) == [None, None]


async def test_one_that_takes_the_connection_along_without_a_word_is_refused_when_it_has_done_so_a_few_times() -> None:
    broker = Broker(lambda each: LOST if each is B else None)
    assert await broker.send(*MESSAGES) == [None, LOST, LOST, LOST]
    assert await broker.send(B, C, D) == [LOST, None, None]  # the others first
    (outcome,) = await broker.send(B)
    assert outcome == Refused("whenever it is sent, and it alone, the connection is lost")
    assert broker.confirmed == ["a", "c", "d"]


async def test_it_is_refused_though_other_parts_of_the_publisher_lose_connections_too() -> None:
    broker = Broker(lambda each: LOST if each is B else None)
    outcomes = []
    for _ in range(4):
        outcomes += await broker.send(B)
        broker.restarts = 1
        assert await broker.send(C) == [None]
    assert outcomes[:3] == [LOST, LOST, Refused("whenever it is sent, and it alone, the connection is lost")]


@pytest.mark.parametrize("restarts", range(1, 8))
async def test_a_broker_that_is_restarted_refuses_nothing(restarts: int) -> None:
    broker = Broker()
    broker.restarts = restarts
    left = list(MESSAGES)
    for _ in range(restarts + 1):
        outcomes = await broker.send(*left)
        assert not any(isinstance(each, Refused) for each in outcomes)
        left = [each for each, outcome in zip(left, outcomes, strict=True) if outcome is not None]
    assert (left, sorted(broker.confirmed)) == ([], ["a", "b", "c", "d"])


async def test_a_broker_that_breaks_whatever_it_is_sent_refuses_nothing_until_it_takes_something() -> None:
    broker = Broker(lambda _: LOST)
    for _ in range(20):
        assert not any(isinstance(each, Refused) for each in await broker.send(A, B))
    for _ in range(20):
        assert await broker.send(A) == [LOST]
    broker.closes = lambda each: LOST if each is A else None
    assert await broker.send(C) == [None]
    (outcome,) = await broker.send(A)
    assert isinstance(outcome, Refused)


async def test_a_broker_that_is_away_is_not_the_message_s_fault() -> None:
    broker = Broker(lambda each: LOST if each is B else None)
    await broker.send(A, B)
    broker.is_away = True
    for _ in range(20):
        assert await broker.send(B, C) == [AWAY, AWAY]
    broker.is_away = False
    broker.closes = lambda _: None
    assert await broker.send(B, C) == [None, None]
