"""A sender that tests put in the place of a publisher's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from sa_eventsource.publishing.messages import Message
from sa_eventsource.publishing.outcomes import Delayed, Outcome, Refused
from sa_eventsource.publishing.sender import Sender


class ScriptedSender(Sender):
    """A broker that does as it is told."""

    def __init__(self) -> None:
        super().__init__(object(), None, 10.0)
        self.sent: list[tuple[str, int]] = []
        self.bodies: list[bytes] = []
        self.together: list[int] = []
        self.refuses: Callable[[Message], bool] = lambda _: False
        self.delays: Callable[[Message], bool] = lambda _: False

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        self.together.append(len(messages))
        return [self._answer(each) for each in messages]

    def _answer(self, message: Message) -> Outcome:
        if self.refuses(message):
            return Refused("no queue is bound for it")
        if self.delays(message):
            return Delayed("the broker is away")
        self.bodies.append(message.body)
        self.sent.append((message.stream[1], int(message.attributes["aggregateversion"])))
        return None

    async def send_through(self, connection: Any, messages: Sequence[Message]) -> Sequence[Outcome]:
        raise NotImplementedError

    def publish(self, message: Message) -> Coroutine[Any, Any, object]:
        raise NotImplementedError

    def describe(self, subject: str, **described: Any) -> None:
        raise NotImplementedError

    async def check(self, connection: Any) -> None:
        raise NotImplementedError

    async def close(self) -> None: ...
