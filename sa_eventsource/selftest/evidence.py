"""What is in the database when all is over, besides what the processes know: read without the library's own ways of reading."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Text, cast, select

from sa_eventsource.mapping import tables_of_base
from sa_eventsource.selftest.subjects import SUBSCRIPTION, Base, Receipt, taken

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from sa_eventsource.selftest.inspection import Inspection
    from sa_eventsource.selftest.journal import Journals

FOLLOWERS = ("handled", SUBSCRIPTION)
"""Those that note what they take, event by event."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it is in the log."""

    position: int
    transaction_id: int
    aggregate_type: str
    aggregate_id: str
    version: int
    mark: str
    amount: int
    event_type: str

    @property
    def transaction(self) -> str:
        """Name of the transaction that appended it, as its mark says."""
        return self.mark.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Taken:
    """That a follower has taken an event."""

    mark: str
    transaction_id: int


@dataclass(frozen=True, slots=True)
class Receipts:
    """What a transaction wrote besides its events."""

    events: int
    snapshot: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a run.

    Attributes:
        events: The log, in the order of positions.
        receipts: What the transactions wrote besides their events, by name.
        taken: What each follower has taken, in the order in which it did.
        journals: What the processes know.
        inspected: How many rows of strong models were compared while all was at work.
        inconsistencies: What was found then.
        failures: What no process may meet, and what did not end.
    """

    events: list[StoredEvent]
    receipts: dict[str, Receipts]
    taken: dict[str, list[Taken]]
    journals: Journals
    inspected: int = 0
    inconsistencies: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @classmethod
    def read(
        cls, engine: Engine, journals: Journals, inspection: Inspection | None = None, failures: list[str] | None = None
    ) -> Evidence:
        """Read what is in the database."""
        events = tables_of_base("Evidence", Base).events.c
        payload = events.event_data
        log = select(
            events.position,
            cast(cast(events.transaction_id, Text), BigInteger),
            events.aggregate_type,
            events.aggregate_id,
            events.version,
            payload["mark"].as_string(),
            payload["amount"].as_integer(),
            events.event_type,
        ).order_by(events.position)
        receipts = select(Receipt.transaction, Receipt.events, Receipt.snapshot)
        followed = select(taken.c.follower, taken.c.mark, cast(cast(taken.c.transaction_id, Text), BigInteger))
        takings: dict[str, list[Taken]] = {name: [] for name in FOLLOWERS}
        with engine.connect() as connection:
            for follower, mark, transaction_id in connection.execute(followed.order_by(taken.c.number)):
                takings[follower].append(Taken(mark, transaction_id))
            return cls(
                [StoredEvent(*row) for row in connection.execute(log)],
                {name: Receipts(events, snapshot) for name, events, snapshot in connection.execute(receipts)},
                takings,
                journals,
                0 if inspection is None else inspection.rows,
                [] if inspection is None else inspection.problems,
                [*journals.failures, *(failures or [])],
            )
