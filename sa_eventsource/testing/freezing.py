"""A time that stands still, and ids that are the same in every run."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sa_eventsource.arguments import check_moment_of_event
from sa_eventsource.clock import frozen_at
from sa_eventsource.time_ordered_ids import ids_made_by

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
"""The moment at which things happen in a test that does not say when."""


class CountedIds:
    """Makes ids that have the form of a UUIDv7, and differ in their last digits: 1, 2, 3."""

    def __init__(self) -> None:
        """Begin with 1."""
        self._number = 0
        self._moment = NOON
        self.order: dict[UUID, int] = {}

    def copy(self) -> CountedIds:
        """Make one that goes on counting from here by itself."""
        made = CountedIds()
        made._number, made._moment, made.order = self._number, self._moment, dict(self.order)
        return made

    def at(self, moment: datetime) -> CountedIds:
        """Say which moment the ids are of."""
        self._moment = moment
        return self

    def __call__(self) -> UUID:
        """Make the next one."""
        number = self._number = self._number + 1
        milliseconds = int(self._moment.timestamp() * 1000) & (2**48 - 1)
        made = UUID(int=(milliseconds << 80) | (0x7000 << 64) | (0b10 << 62) | number)
        self.order[made] = number
        return made


@contextmanager
def frozen(moment: datetime = NOON) -> Iterator[datetime]:
    """Have the library's clock stand still within the block, and its ids count from 1.

    Events that are applied in the block occur at *moment*, unless they are given a time, and ids that the library makes are the
    same in every run. It applies to the thread or the asyncio task, and to what is begun in it. What else asks for the time is left
    alone: ``datetime.now()`` in the application (``time-machine`` stops that one), and the clock of the database.

    Args:
        moment: Which moment it is, with a time zone.

    Yields:
        The moment.

    Raises:
        ValueError: *moment* has no time zone.
    """
    check_moment_of_event("moment", moment)
    with frozen_at(moment), ids_made_by(CountedIds().at(moment)):
        yield moment
