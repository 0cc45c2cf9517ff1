"""Kafka: each message is acknowledged as the broker's ``acks`` say; the partition key decides its partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError, TopicAuthorizationFailedError
from cloudevents.core.bindings.kafka import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from faststream.kafka.publisher.producer import AioKafkaFastProducerImpl

from sa_eventsource.publishing.messages import CORRELATION
from sa_eventsource.publishing.outcomes import InDoubt, Outcome, Refused, described
from sa_eventsource.publishing.sender import Sender, at_once

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from aiokafka import AIOKafkaProducer

    from sa_eventsource.publishing.messages import Message

_FORMAT = JSONFormat()


class _ClosedOnFailure(AioKafkaFastProducerImpl):
    """FastStream's, which leaves a client open that could not start."""

    __slots__ = ()

    async def connect(self, producer: AIOKafkaProducer, *args: Any, **kwargs: Any) -> None:
        try:
            await super().connect(producer, *args, **kwargs)
        except BaseException:
            await producer.stop()
            raise


class KafkaSender(Sender):
    """Sends by FastStream's ``publish()``; aiokafka makes batches of what is in flight together."""

    async def connect(self) -> Any:
        """Connect the broker; what a failure leaves of it is closed."""
        if type(self.broker.config.producer) is AioKafkaFastProducerImpl:
            self.broker.config.producer.__class__ = _ClosedOnFailure  # nobody else gets hold of the client
        return await super().connect()

    async def send_through(self, _connection: Any, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send messages together."""
        return await self.outcomes(at_once(map(self._sending, messages)))

    async def check(self, _connection: Any) -> None:
        """Do nothing: the client mends its connections by itself, and says nothing of it."""

    async def _sending(self, message: Message) -> None:
        await (await self._publish(message, no_confirm=True))

    def publish(self, message: Message) -> Coroutine[Any, Any, object]:
        """Send one message by the broker's ``publish()``."""
        return self._publish(message, no_confirm=False)

    def _publish(self, message: Message, *, no_confirm: bool) -> Coroutine[Any, Any, Any]:
        binary = to_binary(CloudEvent(message.attributes, message.body), _FORMAT)
        published: Coroutine[Any, Any, Any] = self.broker.publish(
            message.body,
            self.channel or message.subject,
            key=message.key.encode(),
            headers={**message.headers, **{name: value.decode() for name, value in binary.headers.items()}},
            correlation_id=message.attributes.get(CORRELATION),
            no_confirm=no_confirm,
        )
        return published

    def describe(self, subject: str, **described: Any) -> None:
        """Declare a publisher of FastStream's on the broker."""
        self.broker.publisher(self.channel or subject, **described)

    def judge(self, error: BaseException) -> Outcome:
        """Tell whether an error says that a message will never be taken."""
        if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
            return InDoubt(described(error), is_blamed=True)  # the broker says it of all that the client has put together
        if isinstance(error, TopicAuthorizationFailedError) and self.channel is None:
            return Refused(described(error))  # where all go to one topic, it is none of the message's
        return super().judge(error)
