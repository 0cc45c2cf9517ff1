"""A worker of the self-test: the library's own, whose subscription notes each call outside of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.orm import sessionmaker

from sa_eventsource.selftest.subjects import JOURNAL, Base
from sa_eventsource.workers import Pace, Worker

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from sa_eventsource.selftest.journal import Journal

_PACE = Pace(longest=0.05, longest_outage=0.5)


def worker(engine: Engine, journal: Journal) -> Worker:
    """Make a worker for all that follows the self-test's log.

    Args:
        engine: Whose connections may be cut.
        journal: Where the subscription notes its calls.
    """
    return Worker(sessionmaker(engine, info={JOURNAL: journal}), Base, pace=_PACE)
