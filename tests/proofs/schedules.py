"""Accounts whose deposits are followed in every way; and connections that are interleaved as a list of operations says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Column, Engine, Identity, Integer, String, Table, func, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import ReadModel, RecordedEvent, handles, load_for_update, map_from_event
from sa_eventsource.consumers import subscribe
from sa_eventsource.mapping import tables_on
from sa_eventsource.projections.steps import attempt_step
from sa_eventsource.read_models import append, count
from sa_eventsource.time_ordered_ids import uuid7
from sa_eventsource.workers import Worker
from tests.bank import AnyAccount, Deposited
from tests.followers import followers_on


class Base(DeclarativeBase):
    """Base of the accounts."""


class Account(AnyAccount, Base):
    """Where money comes in, each time with a unique note and at one of a few branches."""

    __aggregate_type__ = "schedules.Account"


class Trail(ReadModel, Base):
    """Declared."""

    __projection_name__ = "trail"
    notes: Mapped[list[str]] = map_from_event(Deposited, reduce=append("note"))
    last_branch: Mapped[str] = map_from_event(Deposited, source="branch")


class Branch(ReadModel, Base):
    """Declared, fed by many streams, and split into shards."""

    __projection_name__ = "branch"
    __shards__ = 3
    branch: Mapped[str] = map_from_event(Deposited, key=True)
    deposits: Mapped[int] = map_from_event(Deposited, reduce=count())


class Handled(ReadModel, Base):
    """By a handler."""

    __tablename__ = "handled"
    __projection_name__ = "handled"
    id: Mapped[str] = mapped_column(primary_key=True)
    notes: Mapped[str] = mapped_column(default="")

    @classmethod
    @handles(Deposited)
    def _deposited(cls, event: RecordedEvent[Deposited], session: Session) -> None:
        row: Any = load_for_update(session, cls, event.aggregate_id)
        row.notes += f"{event.event.note} "


taken = Table(
    "taken",
    Base.metadata,
    Column("number", Integer, Identity(), primary_key=True),
    Column("subscription", String, nullable=False),
    Column("stream", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("note", String, nullable=False),
)
other = Table("other", Base.metadata, Column("number", Integer, Identity(), primary_key=True))


@subscribe("one by one", Deposited, base=Base)
def _one_by_one(deposited: RecordedEvent[Deposited], session: Session) -> None:
    _write("one by one", deposited, session)


@subscribe("in batches", Deposited, base=Base, batch_size=3)
def _in_batches(deposited: RecordedEvent[Deposited], session: Session) -> None:
    _write("in batches", deposited, session)


def _write(subscription: str, deposited: RecordedEvent[Deposited], session: Session) -> None:
    values = {"stream": deposited.aggregate_id, "version": deposited.version, "note": deposited.event.note}
    session.execute(insert(taken).values(subscription=subscription, **values))


SUBSCRIPTIONS = ("one by one", "in batches")

Savepoint = Literal["none", "released", "rolled back"]
Ending = Literal["commit", "rollback", "prepare"]


@dataclass(frozen=True)
class Begin:
    """A connection begins; *early* if it writes another table first, and so takes its transaction id."""

    connection: int
    early: bool


@dataclass(frozen=True)
class Append:
    """It appends events to a stream, through the session or as rows."""

    connection: int
    stream: int
    events: int = 1
    savepoint: Savepoint = "none"
    raw: bool = False


@dataclass(frozen=True)
class End:
    """It ends."""

    connection: int
    how: Ending = "commit"


@dataclass(frozen=True)
class EndPrepared:
    """The oldest prepared transaction ends."""

    commit: bool


@dataclass(frozen=True)
class Stranger:
    """A transaction that has nothing to do with it begins, or ends."""

    elsewhere: bool


@dataclass(frozen=True)
class Read:
    """A follower takes a step."""

    follower: int
    limit: int


@dataclass(frozen=True)
class Work:
    """A worker takes all that there is."""


Operation = Begin | Append | End | EndPrepared | Stranger | Read | Work


@dataclass
class _Transaction:
    session: Session
    streams: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


@dataclass
class Schedule:
    """Carries out operations, one after the other; those that make no sense, or would wait for ever, are left out.

    Attributes:
        engine: Where the log is.
        elsewhere: Another database of the server.
        prepares: Whether the server has prepared transactions.
        prefix: Of the streams of this run.
        committed: The notes that must be in the log.
    """

    engine: Engine
    elsewhere: Engine
    prepares: bool
    prefix: str = field(default_factory=lambda: f"{uuid7().hex}-")
    committed: set[str] = field(default_factory=set)
    done: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _open: dict[int, _Transaction] = field(default_factory=dict)
    _prepared: dict[str, _Transaction] = field(default_factory=dict)
    _strangers: dict[bool, ExitStack] = field(default_factory=dict)
    _number: int = 0

    def carry_out(self, operations: Sequence[Operation]) -> None:
        for each in operations:
            self.done[type(each).__name__] += self._carry_out(each)

    def _carry_out(self, operation: Operation) -> bool:
        match operation:
            case Begin(connection, early) if connection not in self._open:
                self._open[connection] = _Transaction(Session(self.engine))
                if early:
                    self._open[connection].session.execute(insert(other))
            case Append(connection):
                if connection not in self._open:
                    self._open[connection] = _Transaction(Session(self.engine))
                self._append(self._open[connection], operation)
            case End(connection, how) if self._open:
                self._end(self._open.pop(sorted(self._open)[connection % len(self._open)]), how)
            case EndPrepared(commit) if self._prepared:
                self._end_prepared(next(iter(self._prepared)), commit=commit)
            case Stranger(elsewhere):
                self._stranger(elsewhere)
            case Read(number, limit):
                followers = followers_on(self.engine, Base)
                with Session(self.engine) as session:
                    step = attempt_step(session, followers[number % len(followers)], limit, lock_wait=60)
                    assert step.error is None, step.error
            case Work():
                Worker(self.engine, Base).run_once()
            case _:
                return False
        return True

    def _append(self, transaction: _Transaction, operation: Append) -> None:
        stream = f"{self.prefix}{operation.stream}"
        others = [each for each in (*self._open.values(), *self._prepared.values()) if each is not transaction]
        if any(stream in each.streams for each in others):
            return  # it would wait for the other's end
        transaction.streams.add(stream)
        session = transaction.session
        if operation.savepoint == "none":
            self._deposit(transaction, stream, operation)
            session.flush()
            return
        before = list(transaction.notes)
        savepoint = session.begin_nested()
        self._deposit(transaction, stream, operation)
        session.flush()
        if operation.savepoint == "released":
            savepoint.commit()
        else:
            savepoint.rollback()
            transaction.notes = before

    def _deposit(self, transaction: _Transaction, stream: str, operation: Append) -> None:
        session = transaction.session
        notes = [f"{self.prefix}{self._number + number}" for number in range(1, operation.events + 1)]
        self._number += operation.events
        transaction.notes += notes
        branches = [f"{self.prefix}{each[-1]}" for each in notes]
        if operation.raw:
            self._insert(session, stream, notes, branches)
            return
        account = session.get(Account, stream, populate_existing=True)
        if account is None:
            session.add(account := Account(id=stream))
        for note, branch in zip(notes, branches, strict=True):
            account.apply_event(Deposited(amount=1, note=note, branch=branch))

    def _insert(self, session: Session, stream: str, notes: list[str], branches: list[str]) -> None:
        """Append as someone without the library would."""
        session.flush()
        events = tables_on(Base.metadata).events
        last = session.scalar(select(func.max(events.c.version)).where(events.c.aggregate_id == stream)) or 0
        for version, (note, branch) in enumerate(zip(notes, branches, strict=True), last + 1):
            values = {
                "event_id": uuid7(),
                "aggregate_type": Account.__aggregate_type__,
                "aggregate_id": stream,
                "version": version,
                "event_type": Deposited.__event_type__,
                "event_data": func.jsonb_build_object("amount", 1, "note", note, "branch", branch),
                "occurred_at": func.current_timestamp(),
            }
            session.connection().execute(insert(events).values(values))

    def _end(self, transaction: _Transaction, how: Ending) -> None:
        with transaction.session as session:
            if how == "prepare" and self.prepares:
                name = f"{self.prefix}{self._number}-{len(self.done)}-{id(transaction)}"
                session.flush()
                session.connection().exec_driver_sql(f"PREPARE TRANSACTION '{name}'")
                self._prepared[name] = transaction
                self.done["prepared"] += 1
            elif how == "rollback":
                session.rollback()
            else:
                session.commit()
                self.committed.update(transaction.notes)

    def _end_prepared(self, name: str, *, commit: bool) -> None:
        transaction = self._prepared.pop(name)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"{'COMMIT' if commit else 'ROLLBACK'} PREPARED '{name}'")
        if commit:
            self.committed.update(transaction.notes)

    def _stranger(self, elsewhere: bool) -> None:
        if elsewhere in self._strangers:
            self._strangers.pop(elsewhere).close()
            return
        stack = self._strangers[elsewhere] = ExitStack()
        connection = stack.enter_context((self.elsewhere if elsewhere else self.engine).connect())
        connection.execute(text("SELECT pg_current_xact_id()"))

    def finish(self) -> None:
        """Commit all that is still open, the latest first."""
        for number in sorted(self._open, reverse=True):
            self._end(self._open.pop(number), "commit")
        for name in list(self._prepared):
            self._end_prepared(name, commit=True)

    def give_up(self) -> None:
        """Leave nothing open behind."""
        for each in (*self._open.values(), *self._prepared.values()):
            each.session.close()
        for name in list(self._prepared):
            self._end_prepared(name, commit=False)
        for stack in self._strangers.values():
            stack.close()


@contextmanager
def schedule(engine: Engine, elsewhere: Engine) -> Iterator[Schedule]:
    """A schedule for the block, that leaves no transaction open."""
    with engine.connect() as connection:
        prepares = connection.scalar(text("SELECT current_setting('max_prepared_transactions')::int > 0"))
    running = Schedule(engine, elsewhere, bool(prepares))
    try:
        yield running
    finally:
        running.give_up()
