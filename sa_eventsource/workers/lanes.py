"""Who works alongside whom in a worker: followers of one lane take turns, and no lane waits for another.

A publisher waits for its broker in the middle of its turn, however long that is silent, so each has a lane of its own.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from sa_eventsource.consumers import Relay, followers_of
from sa_eventsource.store import database_of
from sa_eventsource.workers.companions import Companion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.orm import Session

    from sa_eventsource.consumers import Consumer, Follower
    from sa_eventsource.workers.polling import Polling
    from sa_eventsource.workers.tenant_polling import TenantPolling


def lanes_of(consumers: Iterable[Consumer], session: Session) -> list[list[Follower]]:
    """Deal the followers of consumers out to lanes.

    Args:
        consumers: What a worker looks after.
        session: One of its sessions, which says in which database each is.

    Returns:
        At least one lane: a publisher that is alone needs none next to it. Where a database has one writer at a time, as SQLite,
        there is one for all: whoever waits in a transaction keeps everybody waiting.
    """
    shared: list[Follower] = []
    own: list[list[Follower]] = []
    for consumer in consumers:
        dialect = session.get_bind(**consumer.bind_arguments).dialect
        followers = followers_of(consumer, dialect)
        if isinstance(consumer, Relay) and not database_of(dialect).has_one_writer:
            own.append(followers)
        else:
            shared += followers
    return [shared, *own] if shared or not own else own


class Lane(Companion):
    """Lets the followers of a lane take their turns in a thread alongside the worker's."""

    name = "publisher"

    def __init__(self, sessions: Callable[[], Any], polling: Polling | TenantPolling) -> None:
        """Take the worker's sessions, and what looks after the followers."""
        self._sessions, self._polling = sessions, polling
        self._woken = threading.Event()

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Follow the log."""
        while not is_stopping():
            self._polling.is_listening = self.is_listening
            with self._sessions() as session:
                pause = self._polling.wake(session)
            self._woken.wait(pause)
            self._woken.clear()

    def run_once(self) -> None:
        """Take what there is to take."""
        with self._sessions() as session:
            self._polling.run(session)

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()
