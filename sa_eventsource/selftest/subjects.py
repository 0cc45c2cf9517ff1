"""What the self-test writes, and what follows it: a small application that has every kind of follower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Identity, Integer, Table, Text, Uuid, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource.aggregates import AggregateRoot, applies
from sa_eventsource.consumers import subscribe
from sa_eventsource.events import DomainEvent, RecordedEvent
from sa_eventsource.mapping import XID8, current_transaction_id
from sa_eventsource.read_models import (
    ReadModel,
    append,
    count,
    decrement,
    first,
    handles,
    increment,
    load_for_update,
    map_from_event,
    max_,
    min_,
)

if TYPE_CHECKING:
    from sa_eventsource.selftest.journal import Journal

JOURNAL = "sa_eventsource.selftest.journal"
"""In the info of a worker's session: the journal in which the subscription notes its calls."""

SUBSCRIPTION = "sa_eventsource.selftest.subscription"
BATCH_SIZE = 20


class Base(DeclarativeBase):
    """Base of the self-test's classes. The tables have no schema of their own: the engine translates it."""


class Entered(DomainEvent):
    """An amount was entered. No two events have the same mark, which names the transaction and the place in it."""

    __event_type__ = "sa_eventsource.selftest.Entered"
    mark: str
    amount: int
    place: int


class Corrected(Entered):
    """An amount was taken back."""

    __event_type__ = "sa_eventsource.selftest.Corrected"


class Subject(AggregateRoot[str], Base):
    """What all aggregates of the self-test have in common."""

    __abstract__ = True
    entries: int = 0
    total: int = 0
    last_mark: str = ""

    def enter(self, mark: str, amount: int, place: int) -> None:
        """Enter an amount; a negative one is a correction."""
        event_class = Entered if amount >= 0 else Corrected
        self.apply_event(event_class(mark=mark, amount=abs(amount), place=place))

    @applies(Entered)
    def _entered(self, event: Entered) -> None:
        self.entries += 1
        self.total += -event.amount if isinstance(event, Corrected) else event.amount
        self.last_mark = event.mark


class Account(Subject):
    """With a snapshot every five events."""

    __aggregate_type__ = "sa_eventsource.selftest.Account"
    __snapshot_frequency__ = 5


class Meter(Subject):
    """Without snapshots."""

    __aggregate_type__ = "sa_eventsource.selftest.Meter"


SUBJECTS: tuple[type[Subject], ...] = (Account, Meter)


class Balances(ReadModel, Base):
    """Strong, a row for each stream, in the shared table."""

    __projection_name__ = "balances"
    __consistency__ = "strong"

    subject: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    total: Mapped[int] = map_from_event({Entered: increment("amount"), Corrected: decrement("amount")})
    first_mark: Mapped[str] = map_from_event(Entered, reduce=first("mark"))
    last_mark: Mapped[str] = map_from_event(Entered, source="mark")


class Turnover(ReadModel, Base):
    """Strong, rows that many streams feed, in a table of its own."""

    __tablename__ = "turnover"
    __projection_name__ = "turnover"
    __consistency__ = "strong"

    place: Mapped[int] = map_from_event(key=True)
    total: Mapped[int] = map_from_event({Entered: increment("amount"), Corrected: decrement("amount")})
    entries: Mapped[int] = map_from_event(Entered, reduce=count())
    last_mark: Mapped[str] = map_from_event(Entered, source="mark")


class Trails(ReadModel, Base):
    """Eventual, a row for each stream, in the shared table."""

    __projection_name__ = "trails"

    subject: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    marks: Mapped[list[str]] = map_from_event(Entered, reduce=append("mark"))


class Places(ReadModel, Base):
    """Eventual, rows that many streams feed, in a table of its own; in two parts, which different workers may take."""

    __tablename__ = "places"
    __projection_name__ = "places"
    __shards__ = 2

    place: Mapped[int] = map_from_event(key=True)
    total: Mapped[int] = map_from_event({Entered: increment("amount"), Corrected: decrement("amount")})
    entries: Mapped[int] = map_from_event(Entered, reduce=count())
    least: Mapped[int] = map_from_event(Entered, reduce=min_("amount"))
    greatest: Mapped[int] = map_from_event(Entered, reduce=max_("amount"))
    first_mark: Mapped[str] = map_from_event(Entered, reduce=first("mark"))
    last_mark: Mapped[str] = map_from_event(Entered, source="mark")


class Handled(ReadModel, Base):
    """Eventual, by a handler; a row for each stream."""

    __tablename__ = "handled"
    __projection_name__ = "handled"

    subject: Mapped[str] = mapped_column(primary_key=True)
    entries: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    last_mark: Mapped[str] = mapped_column(default="")

    @classmethod
    @handles(Entered)
    def _entered(cls, recorded: RecordedEvent[Entered], session: Session) -> None:
        event = recorded.event
        row = load_for_update(session, cls, recorded.aggregate_id)
        row.entries += 1
        row.total += -event.amount if isinstance(event, Corrected) else event.amount
        row.last_mark = event.mark
        _take("handled", recorded, session)


class Receipt(Base):
    """An ordinary row of the application, written by the transaction that appends events.

    Attributes:
        transaction: Name of the transaction.
        events: How many events it appends.
        snapshot: What it saw when it began.
    """

    __tablename__ = "receipts"

    transaction: Mapped[str] = mapped_column(Text, primary_key=True)
    events: Mapped[int]
    snapshot: Mapped[str] = mapped_column(Text)


class Errand(Base):
    """A row of transactions that have nothing to do with the log."""

    __tablename__ = "errands"

    number: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)


taken = Table(
    "taken",
    Base.metadata,
    Column("number", BigInteger, Identity(), primary_key=True),
    Column("follower", Text, nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("mark", Text, nullable=False),
    Column("transaction_id", XID8, nullable=False, server_default=current_transaction_id()),
    Column("version", Integer, nullable=False),
)
"""Which follower has taken which event; the order of the numbers is the order in which one follower took them."""


@subscribe(SUBSCRIPTION, Entered, base=Base, batch_size=BATCH_SIZE)
def _call(recorded: RecordedEvent[Entered], session: Session) -> None:
    attempt = _take(SUBSCRIPTION, recorded, session)
    journal: Journal = session.info[JOURNAL]
    journal.note("called", attempt, recorded.event.mark)


def _take(follower: str, recorded: RecordedEvent[Entered], session: Session) -> int:
    """Note that a follower takes an event; give the id of its transaction."""
    values: dict[str, Any] = {"event_id": recorded.event_id, "mark": recorded.event.mark, "version": recorded.version}
    statement = insert(taken).values(follower=follower, **values).returning(taken.c.transaction_id)
    return int(session.execute(statement).scalar_one())
