"""NATS JetStream: the stream acknowledges each message, and drops one that it has had, by the event's id."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cloudevents.core.bindings.rabbitmq import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from nats.errors import BadHeaderError, BadSubjectError, MaxPayloadError
from nats.js.api import Header
from nats.js.errors import BadRequestError, NoStreamResponseError, NotFoundError

from sa_eventsource.publishing.messages import CONTENT_TYPE
from sa_eventsource.publishing.outcomes import Delayed, InDoubt, Outcome, Refused, described
from sa_eventsource.publishing.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from sa_eventsource.publishing.messages import Message

_FORMAT = JSONFormat()
_ENCODED = frozenset(' "%')
_SAFE = "!#$&'()*+,/:;<=>?@[\\]^`{|}~"
_STREAM_MISMATCH = 10060
"""JetStream's code for: another stream has the subject than the one that the publisher names."""
_OTHER_STREAM = Refused("another stream of JetStream has the subject than the one that is named")
_NOBODY_ANSWERS = Delayed("nobody takes the subject: the stream is not there, or JetStream is not ready")
_BLAMING = ("maximum payload violation", "maximum control line exceeded", "unknown protocol operation", "invalid publish subject")
"""What the server says, and closes the connection, when it is sent what it cannot take."""
_WILDCARDS = frozenset("*>")


class NatsSender(Sender):
    """Sends through the client, past FastStream's ``publish()``, which costs a third of the rate."""

    async def send_through(self, connection: Client, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send messages together, and look for the stream of those that nobody takes."""
        if connection.is_closed:
            self.broker._connection = None  # noqa: SLF001 - it has given up, and stop() cannot be called: it drains
            return [Delayed("the connection is lost for good; the next attempt opens another one")] * len(messages)
        if not connection.is_connected:  # it connects again by itself
            return [Delayed("the connection is lost")] * len(messages)
        stream = connection.jetstream()
        connected = connection.stats["reconnects"]

        def lost() -> InDoubt | None:
            return _lost(connection) if not connection.is_connected or connection.stats["reconnects"] != connected else None

        outcomes = await self.outcomes(lambda message: self._sending(stream, message, connection.max_payload), messages, lost=lost)
        doubtful = [index for index, outcome in enumerate(outcomes) if outcome in (_NOBODY_ANSWERS, _OTHER_STREAM)]
        if doubtful and self.channel is not None and not await self._is_there(stream.stream_info(self.channel)):
            missing = Delayed(f"the stream {self.channel} is not there")
            return [missing if index in doubtful else outcome for index, outcome in enumerate(outcomes)]
        for index in doubtful:
            subject = messages[index].subject
            if outcomes[index] == _NOBODY_ANSWERS and not await self._is_there(stream.find_stream_name_by_subject(subject)):
                outcomes[index] = Refused("no stream of JetStream has the subject")
        return outcomes

    async def _sending(self, stream: JetStreamContext, message: Message, max_payload: int) -> None:
        _check_subject(message.subject)
        headers = _headers(message)
        if self.channel is not None:
            headers[Header.EXPECTED_STREAM.value] = self.channel
        if len(message.body) + _size(headers) > max_payload:  # the client looks at the body alone
            raise MaxPayloadError
        await stream.publish(message.subject, message.body, timeout=self.timeout, headers=headers)

    async def check(self, connection: Client) -> None:
        """Have the server answer a ping."""
        if connection.is_connected:
            await connection.flush()

    def publish(self, message: Message) -> Coroutine[Any, Any, object]:
        """Send one message by the broker's ``publish()``."""
        published: Coroutine[Any, Any, object] = self.broker.publish(
            message.body, message.subject, stream=self.channel, headers=_headers(message)
        )
        return published

    def describe(self, subject: str, **described: Any) -> None:
        """Declare a publisher of FastStream's on the broker."""
        self.broker.publisher(subject, stream=self.channel, **described)

    def judge(self, error: BaseException) -> Outcome:
        """Tell whether an error says that a message will never be taken."""
        if isinstance(error, NoStreamResponseError):
            return _NOBODY_ANSWERS
        if isinstance(error, BadRequestError) and error.err_code == _STREAM_MISMATCH:
            return _OTHER_STREAM
        if isinstance(error, MaxPayloadError | BadRequestError | BadSubjectError | BadHeaderError):
            return Refused(described(error))
        return super().judge(error)

    async def close(self) -> None:
        """Close the connection. The next message opens another one."""
        client, self.broker._connection = self.broker._connection, None  # noqa: SLF001 - stop() would drain it, which takes an answer
        if client is not None:
            with suppress(Exception):
                await asyncio.wait_for(client.close(), self.timeout)
        await super().close()

    @staticmethod
    async def _is_there(asked: Coroutine[Any, Any, object]) -> bool:
        try:
            await asked
        except NotFoundError:
            return False
        return True


def _lost(connection: Client) -> InDoubt:
    said = str(connection.last_error or "")
    is_blamed = any(each in said.lower() for each in _BLAMING)
    return InDoubt(f"the server closed the connection: {said}" if is_blamed else "the connection is lost", is_blamed=is_blamed)


def _check_subject(subject: str) -> None:
    """Refuse a subject that is a pattern of subjects, or has an empty part: no stream has it."""
    parts = subject.split(".")
    if not all(parts) or not _WILDCARDS.isdisjoint(parts):
        raise BadSubjectError


def _headers(message: Message) -> dict[str, str]:
    binary = to_binary(CloudEvent(message.attributes, message.body), _FORMAT)
    headers = {name: _encoded(value) for name, value in binary.headers.items()}
    return {**message.headers, **headers, "content-type": CONTENT_TYPE, Header.MSG_ID.value: _message_id(message)}


def _size(headers: dict[str, str]) -> int:
    """Count the bytes that headers have on their way, which count as the message's."""
    lines = ["NATS/1.0", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return len("\r\n".join(lines).encode())


def _message_id(message: Message) -> str:
    """Make the id that JetStream knows repetitions by: what another publisher sends of the event, or elsewhere, is none."""
    return _encoded(f"{message.event_id} {message.attributes['source']} {message.subject}")


def _encoded(value: str) -> str:
    """Encode what has no place in a header, as the binding for HTTP does, which that for NATS refers to."""
    is_plain = value.isascii() and value.isprintable() and not _ENCODED.intersection(value)
    return value if is_plain else quote(value, safe=_SAFE)
