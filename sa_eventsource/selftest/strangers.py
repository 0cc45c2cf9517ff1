"""A stranger: transactions that have nothing to do with the log, and stay open for long with a transaction id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sa_eventsource.selftest.subjects import Errand
from sa_eventsource.store import Meaning, meaning_of

if TYPE_CHECKING:
    import random
    import threading

    from sqlalchemy import Engine

    from sa_eventsource.selftest.journal import Journal

_HELD = (0.2, 3.0)


def run_errands(engine: Engine, journal: Journal, chance: random.Random, stop: threading.Event) -> None:
    """Begin transactions, write another table, keep them open, and end them, until told to stop."""
    while not stop.is_set():
        try:
            with Session(engine) as session:
                session.add(Errand(name="of a stranger"))
                session.flush()
                stop.wait(chance.uniform(*_HELD))
                if chance.random() < 0.5:  # noqa: PLR2004 - one way or the other
                    session.commit()
        except DBAPIError as error:
            if meaning_of(error) is not Meaning.SERVER_AWAY:
                raise
        journal.note("stranger")
