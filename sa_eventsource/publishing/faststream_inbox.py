"""The inbox as a dependency of FastStream's: a subscriber gets a session, and is not called for what was handled before."""

import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any
from weakref import WeakSet

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource.exceptions import AcknowledgementWarning
from sa_eventsource.extras import needs_extra
from sa_eventsource.publishing.inbox import Inbox

with needs_extra("rabbitmq", "nats", "redis", "kafka", part="sa_eventsource.publishing.faststream_inbox"):
    from faststream import AckPolicy, Context, Depends
    from faststream.exceptions import AckMessage

# FastStream reads the annotations of what it calls, so that they are no texts here.
_Message = Annotated[Any, Context("message")]
_Subscriber = Annotated[Any, Context("handler_")]


def handled_once(inbox: Inbox, sessions: sessionmaker[Session]) -> Any:
    """Make a dependency: a session whose transaction handles the message once.

    Example::

        @broker.subscriber("billing", ack_policy=AckPolicy.NACK_ON_ERROR)
        def bill(placed: OrderPlaced, session: Annotated[Session, handled_once(inbox, sessions)]) -> None:
            session.add(Invoice(...))

    The transaction is committed when the subscriber returns, and rolled back when it raises; after that, the message is
    acknowledged or not, as its ``ack_policy`` says: by FastStream's default, what was rolled back is lost, of which an
    ``AcknowledgementWarning`` tells. A message that was handled before is acknowledged without a call.

    Args:
        inbox: The inbox.
        sessions: What makes sessions.
    """
    check = _policy_check()

    def session(message: _Message, subscriber: _Subscriber) -> Iterator[Session]:
        check(subscriber)
        with sessions() as opened, opened.begin():
            if not inbox(opened, message):
                raise AckMessage
            yield opened

    return Depends(session)


def async_handled_once(inbox: Inbox, sessions: async_sessionmaker[AsyncSession]) -> Any:
    """Make the same dependency with an ``AsyncSession``."""
    check = _policy_check()

    async def session(message: _Message, subscriber: _Subscriber) -> AsyncIterator[AsyncSession]:
        check(subscriber)
        async with sessions() as opened, opened.begin():
            if not await opened.run_sync(inbox, message):
                raise AckMessage
            yield opened

    return Depends(session)


def _policy_check() -> Callable[[Any], None]:
    """Make what warns once of each subscriber that has the broker drop what was rolled back."""
    checked: WeakSet[Any] = WeakSet()

    def check(subscriber: Any) -> None:
        if subscriber not in checked:
            checked.add(subscriber)
            if subscriber.ack_policy not in (AckPolicy.NACK_ON_ERROR, AckPolicy.MANUAL):
                policy = AckPolicy(subscriber.ack_policy).name
                warnings.warn(AcknowledgementWarning(subscriber.specification.call_name, policy), stacklevel=2)

    return check
