"""Events on their way to a message broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.exceptions.base import EventSourceError
from sa_eventsource.exceptions.read_models import SubscriptionError

if TYPE_CHECKING:
    from uuid import UUID


class DeliveryDelayedError(EventSourceError):
    """A broker cannot take messages now. Nothing is lost: they are sent again, with growing pauses, until it can.

    See that the broker runs, and that what the publisher sends to (an exchange, a stream, a topic) is there.

    Attributes:
        publisher: The publisher's name.
        reason: What stands in the way.
    """

    def __init__(self, publisher: str, reason: str) -> None:
        """Build the message from the reason."""
        self.publisher = publisher
        self.reason = reason
        super().__init__(f"publisher {publisher!r} waits for its broker, and sends again what is not confirmed: {reason}")


class MessageRefusedError(SubscriptionError):
    """A broker will never take a message as it is: nothing is bound to its subject, or it is too large.

    The event is parked, with all later ones of its stream; other streams go on. Correct what is wrong, and have it sent again by
    ``sa-eventsource parked retry``, or drop it.

    Attributes:
        subscription: The publisher's name.
        events: The event, with type, id and stream.
        event_ids: Its id.
        subject: What it was to be published under.
        reason: What the broker says.
    """

    def __init__(self, publisher: str, *, event: str, event_id: UUID, subject: str, reason: str) -> None:
        """Build the message from the event and the reason."""
        super().__init__(
            publisher, events=[event], event_ids=[event_id], reason=f"the broker refuses it under the subject {subject!r}: {reason}"
        )
        self.subject = subject


class MessageIdError(EventSourceError, ValueError):
    """A message has no id that an inbox could note, so that it cannot be told whether it was handled.

    Messages of a publisher have the header ``ce-id``. Give another one's own id: ``inbox(session, message.message_id)``.

    Attributes:
        message: The message, as a text.
        message_id: The id that is too long, or empty.
    """

    def __init__(self, message: str, message_id: str) -> None:
        """Build the message from what was found."""
        self.message = message
        self.message_id = message_id
        found = f"an id or a source that is too long ({message_id[:40]}...)" if message_id else "no header ce-id or ce_id"
        super().__init__(f"{message:.200} has {found}; give the inbox the id itself: inbox(session, message.message_id)")


class AcknowledgementWarning(UserWarning):
    """A subscriber of FastStream's whose message is gone when its transaction is rolled back.

    By FastStream's default, ``AckPolicy.REJECT_ON_ERROR``, RabbitMQ and NATS drop a message that a subscriber has raised for. Give
    it ``ack_policy=AckPolicy.NACK_ON_ERROR``; a router or a broker may have it for all.

    Attributes:
        subscriber: What the subscriber calls.
        ack_policy: The policy that it has.
    """

    def __init__(self, subscriber: str, ack_policy: str) -> None:
        """Build the message from the policy."""
        self.subscriber = subscriber
        self.ack_policy = ack_policy
        super().__init__(
            f"the subscriber {subscriber!r} has the ack_policy {ack_policy}: where its transaction is rolled back, the message is "
            "lost. Declare it with ack_policy=AckPolicy.NACK_ON_ERROR"
        )
