"""What a publisher needs of a broker: messages sent together, and of each what came of it."""

from __future__ import annotations

import asyncio
import struct
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any

from sa_eventsource.publishing.outcomes import Delayed, InDoubt, Outcome, Refused, described
from sa_eventsource.publishing.suspects import Suspects

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from sa_eventsource.publishing.messages import Message

_LOOK_UP = 0.2
"""Seconds until it is looked whether the connection was lost meanwhile."""

_NOT_WRITTEN = (ValueError, OverflowError, struct.error)
"""What is raised where a message cannot be written as the protocol wants it: a text that is none in UTF-8, one that is too long."""
_NOT_READ = (OSError, JSONDecodeError)
"""What is raised where the broker's answer cannot be read, and is a ``ValueError`` in part."""


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
        self._suspects = Suspects()

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send messages, no two of one stream, and wait until it is known of each what came of it."""
        return await self._suspects.send(messages, self._send_together, self._send_alone)

    async def _send_alone(self, message: Message) -> Outcome:
        try:
            if not _is_in_memory(self.broker):
                await asyncio.wait_for(self.check(await self.connect()), self.timeout)
        except Exception as error:  # noqa: BLE001 - nothing was sent yet
            return self._delayed(error)
        (outcome,) = await self._send_together([message])
        return outcome

    async def _send_together(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        try:
            if _is_in_memory(self.broker):
                return await self.outcomes(at_once(map(self.publish, messages)), judge=_is_of_the_process)
            outcomes = await self.send_through(await self.connect(), messages)
        except Exception as error:  # noqa: BLE001 - none of a client's errors says that a message is to blame, except for those it knows
            return [self._delayed(error)] * len(messages)
        if all(outcome == self._no_answer for outcome in outcomes):
            await self.close()  # it may lead nowhere, which the client finds out minutes later
        return outcomes

    @property
    def _no_answer(self) -> Delayed:
        return Delayed(f"no answer within {self.timeout:g} s")

    def _delayed(self, error: BaseException) -> Delayed:
        is_silence = isinstance(error, TimeoutError) and error.errno is None  # else the operating system has something to say
        return self._no_answer if is_silence else Delayed(described(error))

    async def connect(self) -> Any:
        """Connect the broker; what a failure leaves of it is closed."""
        try:
            return await asyncio.wait_for(self.broker.connect(), self.timeout)
        except Exception:
            await self.close()  # part of it may be open, which the next attempt would leave as it is
            raise

    async def outcomes(
        self,
        answers: Sequence[asyncio.Future[Any]],
        *,
        lost: Callable[[], InDoubt | None] = lambda: None,
        judge: Callable[[BaseException], Outcome] | None = None,
    ) -> list[Outcome]:
        """Wait for the answers to messages that were sent together, and judge what came of each.

        Args:
            answers: A future for the answer to each of them; what has none in time is cancelled.
            lost: Tells whether the connection was lost, for clients that let those wait who still wait for an answer.
            judge: Tells what an error means; None for :meth:`judge`.
        """
        late: AbstractSet[asyncio.Future[Any]] = set(answers)
        until = time.monotonic() + self.timeout
        while late and lost() is None and (left := until - time.monotonic()) > 0:
            answered, late = await asyncio.wait(late, timeout=min(left, _LOOK_UP))
            if answered:
                until = time.monotonic() + self.timeout  # it is slow, but it answers
        for answer in late:
            answer.cancel()
        why = lost() or self._no_answer
        return [why if answer in late else _outcome(answer, lost, judge or self.judge) for answer in answers]

    @abstractmethod
    async def send_through(self, connection: Any, /, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send messages through what the broker's ``connect()`` gave."""

    @abstractmethod
    def publish(self, message: Message) -> Coroutine[Any, Any, object]:
        """Send one message by the broker's ``publish()``."""

    @abstractmethod
    def describe(self, subject: str, **described: Any) -> None:
        """Declare a publisher of FastStream's on the broker, for its AsyncAPI document: what is sent under a subject."""

    @abstractmethod
    async def check(self, connection: Any, /) -> None:
        """Have the broker answer something, to know that the connection is whole; raises whatever the client does."""

    def judge(self, error: BaseException) -> Outcome:
        """Tell whether an error says that a message will never be taken."""
        is_for_good = isinstance(error, _NOT_WRITTEN) and not isinstance(error, _NOT_READ)
        return Refused(described(error)) if is_for_good else self._delayed(error)

    async def close(self) -> None:
        """Close the connection, as far as the broker answers. The next message opens another one."""
        with suppress(Exception):
            await asyncio.wait_for(self.broker.stop(), self.timeout)


def at_once(sending: Iterable[Coroutine[Any, Any, object]]) -> list[asyncio.Future[Any]]:
    """Have coroutines that each send a message and wait for its answer run side by side."""
    return [asyncio.ensure_future(each) for each in sending]


def _outcome(answer: asyncio.Future[Any], lost: Callable[[], InDoubt | None], judge: Callable[[BaseException], Outcome]) -> Outcome:
    if answer.cancelled():
        return lost() or InDoubt("the connection is lost")
    error = answer.exception()
    return None if error is None else judge(error)


def _is_of_the_process(error: BaseException) -> Outcome:
    """Judge an error where there is no broker: it is that of a subscriber in the process."""
    return Delayed(described(error))


def _is_in_memory(broker: Any) -> bool:
    """Check whether a TestBroker of FastStream's is at work, which hands messages to subscribers in the process."""
    return type(broker.config.producer).__module__.endswith(".testing")
