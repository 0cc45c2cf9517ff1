"""What JetStream answers, by one subscription for all messages of a connection: the client has a task and a timer for each."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import TYPE_CHECKING, Any

from nats.js.api import Header
from nats.js.errors import APIError, NoStreamResponseError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

_NOBODY = "503"
"""The status of the answer where nobody has subscribed to a subject."""


class JetStreamAnswers:
    """Sends messages through a connection, and hears what comes of each.

    Attributes:
        connection: The connection.
    """

    def __init__(self, connection: Client) -> None:
        """Listen to nothing yet."""
        self.connection = connection
        self._inbox = f"{connection.new_inbox()}."
        self._numbers = count()
        self._awaited: dict[str, tuple[asyncio.Future[None], str]] = {}
        self._listens = False

    async def send(self, subject: str, body: bytes, headers: dict[str, str]) -> asyncio.Future[None]:
        """Send a message, and give a future that is done when the stream has it.

        The future fails with what the client's ``publish()`` of JetStream would raise. Whoever does not wait any longer cancels it.

        Raises:
            Exception: What the client does where a message cannot be sent.
        """
        if not self._listens:
            self._listens = True
            await self.connection.subscribe(f"{self._inbox}*", cb=self._heard)
        reply = f"{self._inbox}{next(self._numbers)}"
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited[reply] = answer, subject
        answer.add_done_callback(lambda _: self._awaited.pop(reply, None))
        try:
            await self.connection.publish(subject, body, reply=reply, headers=headers)
        except BaseException:
            answer.cancel()
            raise
        return answer

    def fail(self, subject: str, error: Exception) -> None:
        """Fail what was sent under a subject, which is told without regard to case."""
        for answer, its_subject in list(self._awaited.values()):
            if its_subject.lower() == subject.lower() and not answer.done():
                answer.set_exception(error)

    async def _heard(self, message: Msg) -> None:
        answer, _ = self._awaited.get(message.subject, (None, ""))
        if answer is None or answer.done():  # it has come too late
            return
        error = _error_in(message)
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)


def _error_in(message: Msg) -> Exception | None:
    if message.headers and message.headers.get(Header.STATUS) == _NOBODY:
        return NoStreamResponseError()
    try:
        said: dict[str, Any] = json.loads(message.data)
        if "error" in said:
            APIError.from_error(said["error"])  # it raises it
    except Exception as error:  # noqa: BLE001 - what cannot be read is an error as well
        return error
    return None
