"""What a publisher needs of a broker: messages sent together, and of each what came of it."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from collections.abc import Set as AbstractSet

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


_LOOK_UP = 0.2
"""Seconds until it is looked whether the connection was lost meanwhile."""


class Sender(ABC):
    """Sends messages through the connection of a FastStream broker, in the event loop that the broker is connected in."""

    def __init__(self, broker: Any, channel: str | None, timeout: float) -> None:
        """Choose the broker.

        Args:
            broker: A broker of FastStream.
            channel: Where in the broker: the exchange, the stream or the topic; None for what the subject alone says.
            timeout: For how many seconds to wait for the next answer.
        """
        self.broker = broker
        self.channel = channel
        self.timeout = timeout

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send messages, no two of one stream, and wait until it is known of each what came of it."""
        try:
            if _is_in_memory(self.broker):
                return await self.outcomes([self.publish(message) for message in messages])
            connection = await asyncio.wait_for(self.broker.connect(), self.timeout)
            return await self.send_through(connection, messages)
        except Exception as error:  # noqa: BLE001 - none of a client's errors says that a message is to blame, but for those it knows
            return [Delayed(described(error))] * len(messages)

    async def outcomes(
        self, sending: Sequence[Coroutine[Any, Any, object]], *, is_lost: Callable[[], bool] = lambda: False
    ) -> list[Outcome]:
        """Wait for messages that are being sent together, and judge what came of each.

        Args:
            sending: What sends each of them.
            is_lost: Tells whether the connection was lost, for clients that let those wait who still wait for an answer.
        """
        tasks = [asyncio.ensure_future(each) for each in sending]
        late: AbstractSet[asyncio.Task[object]] = set(tasks)
        until = time.monotonic() + self.timeout
        while late and not is_lost() and (left := until - time.monotonic()) > 0:
            answered, late = await asyncio.wait(late, timeout=min(left, _LOOK_UP))
            if answered:
                until = time.monotonic() + self.timeout  # it is slow, but it answers
        for task in late:
            task.cancel()
        why = Delayed("the connection is lost" if is_lost() else f"no answer within {self.timeout:g} s")
        return [why if task in late else self._outcome(task) for task in tasks]

    def _outcome(self, task: asyncio.Task[object]) -> Outcome:
        error = asyncio.CancelledError("the connection is lost") if task.cancelled() else task.exception()
        return None if error is None else self.judge(error)

    @abstractmethod
    async def send_through(self, connection: Any, /, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send messages through what the broker's ``connect()`` gave."""

    @abstractmethod
    def publish(self, message: Message) -> Coroutine[Any, Any, object]:
        """Send one message by the broker's ``publish()``."""

    @abstractmethod
    def describe(self, subject: str, **described: Any) -> None:
        """Declare a publisher of FastStream's on the broker, for its AsyncAPI document: what is sent under a subject."""

    def judge(self, error: BaseException) -> Outcome:
        """Tell whether an error says that a message will never be taken."""
        return Delayed(described(error))

    async def close(self) -> None:
        """Close the connection, as far as the broker answers. The next message opens another one."""
        with suppress(Exception):
            await asyncio.wait_for(self.broker.stop(), self.timeout)


def described(error: BaseException) -> str:
    """Say in one line what went wrong."""
    name, text = type(error).__name__, str(error)
    return " ".join((text if text.startswith(name) else f"{name}: {text}").split()).rstrip(": ")


def _is_in_memory(broker: Any) -> bool:
    """Check whether a TestBroker of FastStream's is at work, which hands messages to subscribers in the process."""
    return type(broker.config.producer).__module__.endswith(".testing")
