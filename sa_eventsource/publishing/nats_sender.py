"""NATS JetStream: the stream acknowledges each message, and drops one that it has had, by the event's id."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nats.errors import BadHeaderError, BadSubjectError, MaxPayloadError
from nats.js.api import Header
from nats.js.errors import BadRequestError, NoStreamResponseError, NotFoundError

from sa_eventsource.publishing.jetstream_answers import JetStreamAnswers
from sa_eventsource.publishing.messages import CONTENT_TYPE
from sa_eventsource.publishing.outcomes import Delayed, InDoubt, Outcome, Refused, described
from sa_eventsource.publishing.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from nats.aio.client import Client

    from sa_eventsource.publishing.messages import Message

_PLAIN = re.compile(r"[!#$&-~]*")
"""What may stand in a header as it is: printable ASCII except for the space, the quotation mark and the percent sign."""
_SAFE = "!#$&'()*+,/:;<=>?@[\\]^`{|}~"
_STREAM_MISMATCH = 10060
"""JetStream's code for: another stream has the subject than the one that the publisher names."""
_OTHER_STREAM = Refused("another stream of JetStream has the subject than the one that is named")
_NOBODY_ANSWERS = Delayed("nobody takes the subject: the stream is not there, or JetStream is not ready")
_BLAMING = ("maximum payload violation", "maximum control line exceeded", "unknown protocol operation", "invalid publish subject")
"""What the server says, and closes the connection, when it is sent what it cannot take."""
_WILDCARDS = frozenset("*>")
_DENIED = re.compile('permissions violation for publish to "(.*)"')


class NotPermittedError(Exception):
    """The server has refused a subject."""


class NatsSender(Sender):
    """Sends through the client, past FastStream's ``publish()``, which costs a third of the rate."""

    def __init__(self, broker: Any, channel: str | None, timeout: float) -> None:
        """Choose the broker. As for every sender."""
        super().__init__(broker, channel, timeout)
        self._answers: JetStreamAnswers | None = None
        self._told: Any = None

    async def connect(self) -> Any:
        """Connect the broker; what a failure leaves of it is closed."""
        options = self.broker._connection_kwargs  # noqa: SLF001 - its callback logs, and there is no other way to add to it
        if options["error_cb"] != self._error_cb:
            self._told, options["error_cb"] = options["error_cb"], self._error_cb
        return await super().connect()

    async def send_through(self, connection: Client, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send messages together, and look for the stream of those that nobody takes."""
        if connection.is_closed:
            self.broker._connection = None  # noqa: SLF001 - it has given up, and stop() cannot be called: it drains
            return [Delayed("the connection is lost for good; the next attempt opens another one")] * len(messages)
        if not connection.is_connected:  # it connects again by itself
            return [Delayed("the connection is lost")] * len(messages)
        if self._answers is None or self._answers.connection is not connection:
            self._answers = JetStreamAnswers(connection)
        answers, connected = self._answers, connection.stats["reconnects"]

        def lost() -> InDoubt | None:
            return _lost(connection) if not connection.is_connected or connection.stats["reconnects"] != connected else None

        outcomes = await self.outcomes([await self._sent(answers, message) for message in messages], lost=lost)
        stream = connection.jetstream()
        doubtful = [index for index, outcome in enumerate(outcomes) if outcome in (_NOBODY_ANSWERS, _OTHER_STREAM)]
        if doubtful and self.channel is not None and not await self._is_there(stream.stream_info(self.channel)):
            missing = Delayed(f"the stream {self.channel} is not there")
            return [missing if index in doubtful else outcome for index, outcome in enumerate(outcomes)]
        for index in doubtful:
            subject = messages[index].subject
            if outcomes[index] == _NOBODY_ANSWERS and not await self._is_there(stream.find_stream_name_by_subject(subject)):
                outcomes[index] = Refused("no stream of JetStream has the subject")
        return outcomes

    async def _sent(self, answers: JetStreamAnswers, message: Message) -> asyncio.Future[None]:
        """Send a message, and give a future for its answer; for what stood in the way, if it cannot be sent."""
        try:
            _check_subject(message.subject)
            headers = _headers(message)
            if self.channel is not None:
                headers[Header.EXPECTED_STREAM.value] = self.channel
            if len(message.body) + _size(headers) > answers.connection.max_payload:  # the client looks at the body alone
                raise MaxPayloadError
            return await answers.send(message.subject, message.body, headers)
        except Exception as error:  # noqa: BLE001 - it is judged as an answer is
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            answer.set_exception(error)
            return answer

    async def _error_cb(self, error: Exception) -> None:
        """Refuse what the server has no permission for: it says so alongside all answers, and writes the subject small."""
        denied = _DENIED.search(str(error))
        if denied is not None and self._answers is not None:
            self._answers.fail(denied[1], NotPermittedError(described(error)))
        await self._told(error)

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
        if isinstance(error, NotPermittedError):
            return Refused(str(error))
        if isinstance(error, MaxPayloadError | BadRequestError | BadSubjectError | BadHeaderError):
            return Refused(described(error))
        return super().judge(error)

    async def close(self) -> None:
        """Close the connection. The next message opens another one."""
        client, self.broker._connection = self.broker._connection, None  # noqa: SLF001 - stop() would drain it, which takes an answer
        if client is not None:
            # Waited for from outside: it may end as cancelled by itself, with the tasks of the client's that it waits for.
            closing = asyncio.ensure_future(client.close())
            closing.add_done_callback(lambda task: task.cancelled() or task.exception())
            try:
                await asyncio.wait([closing], timeout=self.timeout)
            finally:
                closing.cancel()
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
    headers = {name: _encoded(value) if name.startswith("ce-") else value for name, value in message.as_headers().items()}
    return {**headers, "content-type": CONTENT_TYPE, Header.MSG_ID.value: _message_id(message)}


def _size(headers: dict[str, str]) -> int:
    """Count the bytes that headers have on their way, which count as the message's."""
    lines = ["NATS/1.0", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return len("\r\n".join(lines).encode())


def _message_id(message: Message) -> str:
    """Make the id that JetStream knows repetitions by: what another publisher sends of the event, or elsewhere, is none."""
    return "%20".join((str(message.event_id), _encoded(message.attributes["source"]), _encoded(message.subject)))


def _encoded(value: str) -> str:
    """Encode what has no place in a header, as the binding for HTTP does, which that for NATS refers to."""
    return value if _PLAIN.fullmatch(value) else quote(value, safe=_SAFE)
