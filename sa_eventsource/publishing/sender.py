"""What a publisher needs of a broker: messages sent together, and of each what came of it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from sa_eventsource.publishing.messages import Message


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker will not take a message, however often it is sent.

    Attributes:
        reason: What the broker says.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Delayed:
    """It is not known that the broker has a message, and so it is to be sent again.

    Attributes:
        reason: What stood in the way.
    """

    reason: str


Outcome: TypeAlias = Refused | Delayed | None
"""What came of a message; None where the broker has confirmed it."""


class Sender(ABC):
    """Sends messages through the connection of a FastStream broker, in the event loop that the broker is connected in."""

    def __init__(self, broker: Any, channel: str | None, timeout: float) -> None:
        """Choose the broker.

        Args:
            broker: A broker of FastStream.
            channel: Where in the broker: the exchange, the stream or the topic; None for what the subject alone says.
            timeout: After how many seconds a message without an answer is taken for lost.
        """
        self.broker = broker
        self.channel = channel
        self.timeout = timeout

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send messages, no two of one stream, and wait until it is known of each what came of it."""
        try:
            connection = await asyncio.wait_for(self.broker.connect(), self.timeout)
            if connection is None:  # a TestBroker of FastStream's, which hands messages to subscribers within the process
                return await self.outcomes([self.publish(message) for message in messages])
            return await self.send_through(connection, messages)
        except Exception as error:  # noqa: BLE001 - none of a client's errors says that a message is to blame, but for those it knows
            return [Delayed(described(error))] * len(messages)

    async def outcomes(self, sending: Sequence[Coroutine[Any, Any, object]]) -> list[Outcome]:
        """Wait for messages that are being sent together, and judge what came of each."""
        tasks = [asyncio.ensure_future(each) for each in sending]
        _, late = await asyncio.wait(tasks, timeout=self.timeout)
        for task in late:
            task.cancel()
        return [Delayed(f"no answer within {self.timeout:g} s") if task in late else self._outcome(task) for task in tasks]

    def _outcome(self, task: asyncio.Task[object]) -> Outcome:
        error = asyncio.CancelledError("the connection is lost") if task.cancelled() else task.exception()
        return None if error is None else self.judge(error)

    @abstractmethod
    async def send_through(self, connection: Any, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send messages through what the broker's ``connect()`` gave."""

    @abstractmethod
    def publish(self, message: Message) -> Coroutine[Any, Any, object]:
        """Send one message by the broker's ``publish()``."""

    def judge(self, error: BaseException) -> Outcome:
        """Tell whether an error says that a message will never be taken."""
        return Delayed(described(error))

    async def close(self) -> None:
        """Close the connection. The next message opens another one."""
        await self.broker.stop()


def described(error: BaseException) -> str:
    """Say in one line what went wrong."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
