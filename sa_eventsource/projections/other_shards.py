"""What was begun with another number of shards: whoever started over alongside it would take every event a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.checkpoints import read_checkpoints
from sa_eventsource.consumers import Subscription, followers_of
from sa_eventsource.exceptions import DeclarationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sa_eventsource.consumers import Consumer


def other_shards(connection: Connection, consumer: Consumer) -> list[str]:
    """List the checkpoints of a consumer that are of another number of shards and have begun."""
    name = consumer.name
    own = {follower.name for follower in followers_of(consumer, connection.dialect)}
    return [
        kept
        for kept, checkpoint in read_checkpoints(connection, consumer.tables)
        if (kept == name or kept.startswith(f"{name}#")) and kept not in own and checkpoint.declaration is not None
    ]


def refuse_other_shards(connection: Connection, consumer: Consumer) -> None:
    """Refuse to start over with what other shards have taken, which had another number of them.

    Args:
        connection: In a transaction that holds a checkpoint of the consumer that has not begun.
        consumer: The consumer.

    Raises:
        DeclarationError: There is a checkpoint of another number of shards, of a subscription or a publisher.
        ReadModelChangedError: There is one of a read model: its rows hold what that has taken.
    """
    others = other_shards(connection, consumer)
    if not others:
        return
    if isinstance(consumer, Subscription):
        raise DeclarationError(
            f"{consumer.name!r} has begun with another number of shards ({', '.join(others)}), and would take all events once "
            "more. Declare that number, or choose another name, with start=, when the old one has nothing left to take"
        )
    raise consumer.changed()
