"""The inbox as a dependency of FastStream's: a subscriber gets a session, and is not called for what was handled before."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from sa_eventsource.extras import needs_extra
from sa_eventsource.publishing.inbox import Inbox

with needs_extra("rabbitmq", "sa_eventsource.publishing.faststream_inbox"):  # or that of another broker
    from faststream import Context, Depends
    from faststream.exceptions import AckMessage

# FastStream reads the annotations of what it calls, so that they are no texts here.
_Message = Annotated[Any, Context("message")]


def handled_once(inbox: Inbox, sessions: sessionmaker[Session]) -> Any:
    """Make a dependency: a session whose transaction handles the message once.

    Example::

        @broker.subscriber("billing")
        def bill(placed: OrderPlaced, session: Annotated[Session, handled_once(inbox, sessions)]) -> None:
            session.add(Invoice(...))

    The transaction is committed when the subscriber returns, and rolled back when it raises; after that, the message is
    acknowledged or not, as its ``ack_policy`` says. A message that was handled before is acknowledged without a call.

    Args:
        inbox: The inbox.
        sessions: What makes sessions.
    """

    def session(message: _Message) -> Iterator[Session]:
        with sessions() as opened, opened.begin():
            if not inbox(opened, message):
                raise AckMessage
            yield opened

    return Depends(session)


def async_handled_once(inbox: Inbox, sessions: async_sessionmaker[AsyncSession]) -> Any:
    """Make the same dependency with an ``AsyncSession``."""

    async def session(message: _Message) -> AsyncIterator[AsyncSession]:
        async with sessions() as opened, opened.begin():
            if not await opened.run_sync(inbox, message):
                raise AckMessage
            yield opened

    return Depends(session)
