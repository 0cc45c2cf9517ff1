"""Redis streams: messages go in one pipeline, and the id that ``XADD`` gives confirms each."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, NoPermissionError  # noqa: A004 - its name

from sa_eventsource.publishing.messages import CONTENT_TYPE, CORRELATION
from sa_eventsource.publishing.outcomes import InDoubt, Outcome, Refused, described
from sa_eventsource.publishing.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from redis.asyncio import Redis

    from sa_eventsource.publishing.messages import Message

_OF_ONE_KEY = re.compile("permissions to access .*key", re.IGNORECASE)
"""What the server says where it refuses a key, and not the command."""


class RedisSender(Sender):
    """Sends through pipelines, in the form that FastStream gives to messages, so that its subscribers find the headers."""

    async def send_through(self, connection: Redis, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send messages together."""
        connection.set_retry(Retry(NoBackoff(), 0))  # the client would send all of a pipeline again, whatever had arrived
        async with connection.pipeline(transaction=False) as pipeline:
            written = [await self._write(message, pipeline) for message in messages]
            results = iter(await self._execute(pipeline))
        return [next(results) if outcome is None else outcome for outcome in written]

    async def _write(self, message: Message, pipeline: Any) -> Outcome:
        try:
            await self._add(message, pipeline)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this message's
            return Refused(described(error))
        return None

    async def _execute(self, pipeline: Any) -> list[Outcome]:
        commands = len(pipeline)
        try:
            results = await asyncio.wait_for(pipeline.execute(raise_on_error=False), self.timeout)
        except ConnectionError as error:
            return [InDoubt(f"the connection is lost: {described(error)}")] * commands
        return [self.judge(result) if isinstance(result, Exception) else None for result in results]

    def judge(self, error: BaseException) -> Outcome:
        """Tell whether an error says that a message will never be taken."""
        if isinstance(error, NoPermissionError) and self.channel is None and _OF_ONE_KEY.search(str(error)):
            return Refused(described(error))  # where all go to one stream, it is none of the message's
        return super().judge(error)

    async def check(self, connection: Redis) -> None:
        """Have the server answer a ping."""
        await connection.ping()

    def publish(self, message: Message) -> Coroutine[Any, Any, object]:
        """Send one message by the broker's ``publish()``."""
        return self._add(message, None)

    def describe(self, subject: str, **described: Any) -> None:
        """Declare a publisher of FastStream's on the broker."""
        self.broker.publisher(stream=self.channel or subject, **described)

    def _add(self, message: Message, pipeline: Any) -> Coroutine[Any, Any, object]:
        headers = {**message.as_headers(), "content-type": CONTENT_TYPE}
        added: Coroutine[Any, Any, object] = self.broker.publish(
            message.body,
            stream=self.channel or message.subject,
            # As bytes: of a text, FastStream writes how many characters it has, and not how many bytes.
            headers={name: value.encode() for name, value in headers.items()} if pipeline is not None else headers,
            correlation_id=message.attributes.get(CORRELATION),
            pipeline=pipeline,
        )
        return added
