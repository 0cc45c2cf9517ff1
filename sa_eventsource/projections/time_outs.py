"""Time-outs: commands that a process has scheduled for later, and which must not overtake an event that was there before.

The handler of a time-out asks the process whether it still means anything, and the process knows what it has taken. A worker that
was away finds both when it comes back: the payment that came in time, which the process has yet to take, and the time-out. So a
time-out that is due waits until its process manager has taken all that was recorded up to the moment at which it was due. What a
transaction has recorded that is still open counts too: nobody sees it yet, and it may have been in time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, exists, literal, or_, update

from sa_eventsource.checkpoints import STOPPED, WAITING, Lag, is_moved, lag, read_checkpoint
from sa_eventsource.consumers import followers_of, subscriptions_on
from sa_eventsource.mapping import UtcDateTime, is_parked_command, is_scheduled
from sa_eventsource.store import asking_options, database_of, require_own_transaction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Column, ColumnElement, Connection
    from sqlalchemy.orm import Session
    from sqlalchemy.sql.base import ReadOnlyColumnCollection

    from sa_eventsource.consumers import Consumer
    from sa_eventsource.mapping import EventSourceTables

_JUST_BEFORE = timedelta(microseconds=1)

_AGAIN = 2
"""Where events are left, the question is asked again after so many times as long as it took: there may be a million of them."""

_UNDECLARED = (
    "nothing of this name is declared here: a worker whose process imports it runs them; those of a former one run when it is "
    "retired (sa-eventsource retire)"
)
_ELSEWHERE = "its checkpoint cannot be used, as its own status says"


@dataclass(frozen=True, slots=True)
class Clearance:
    """Up to which moment the time-outs of a process manager may run.

    Attributes:
        process_type: Its name.
        upto: Those that are due at that moment or before may run, unless an event of their process is parked; None for none.
        awaits: What the others wait for; None if they wait for nothing.
        is_stuck: Whether that comes about only if somebody does something.
    """

    process_type: str
    upto: datetime | None
    awaits: str | None = None
    is_stuck: bool = False


@dataclass(slots=True)
class Clearances:
    """Asks how far process managers have come; remembers what it needs the next time.

    Attributes:
        tables: The tables of their log.
    """

    tables: EventSourceTables
    _asked_at: datetime | None = field(default=None, init=False)
    _not_before: dict[str, datetime | None] = field(default_factory=dict, init=False)
    _found: dict[str, tuple[Clearance, float]] = field(default_factory=dict, init=False)

    def find(self, session: Session, process_types: Iterable[str], now: datetime) -> list[Clearance]:
        """Find out up to which moment the time-outs of some process managers may run.

        Args:
            session: A session without a transaction in progress. It has none afterwards.
            process_types: Their names.
            now: What the database's clock has shown before this is called.

        Raises:
            JoinedTransactionError: The session's bind is in a transaction.
        """
        wanted = [name for name in process_types if name not in self._found or self._found[name][1] <= time.monotonic()]
        if wanted:
            require_own_transaction(session, self.tables.bind_arguments)
            options = asking_options(session, self.tables, self.tables.bind_arguments)
            connection = session.connection(bind_arguments=self.tables.bind_arguments, execution_options=options)
            try:
                writer = self._oldest_writer(connection, now)  # first: what has ended by now is visible to what is asked then
                consumers = {each.name: each for each in subscriptions_on(self.tables)}
                for name in wanted:
                    begun = time.monotonic()
                    clearance = _clearance(connection, name, consumers.get(name), now, writer)
                    took = time.monotonic() - begun
                    self._found[name] = clearance, time.monotonic() + (0.0 if clearance.awaits is None else _AGAIN * took)
            finally:
                session.rollback()
        return [self._found[name][0] for name in process_types]

    def _oldest_writer(self, connection: Connection, now: datetime) -> _Writer | None:
        """Find the open transaction that has written events and began before all others that have.

        Of one whose beginning is not to be seen, it is known that it had written nothing when this was asked the last time.
        """
        open_writers = database_of(connection.dialect).open_writers(connection, self.tables.events)
        self._not_before = {each.key: self._not_before.get(each.key, self._asked_at) for each in open_writers}
        self._asked_at = now
        writers = [_Writer(each.begun or self._not_before[each.key], each.who) for each in open_writers]
        unknown = next((each for each in writers if each.begun is None), None)
        return unknown or min(writers, key=lambda each: each.begun or now, default=None)


@dataclass(frozen=True, slots=True)
class _Writer:
    """An open transaction: before which moment it cannot have recorded an event, and whose it is."""

    begun: datetime | None
    who: str


def _clearance(connection: Connection, name: str, consumer: Consumer | None, now: datetime, writer: _Writer | None) -> Clearance:
    if consumer is None:
        return Clearance(name, None, _UNDECLARED, is_stuck=True)
    behind, statuses = Lag(), set()
    for follower in followers_of(consumer, connection.dialect):
        checkpoint = read_checkpoint(connection, follower)
        is_of_another = checkpoint.declaration not in (None, consumer.fingerprint)
        if is_of_another or not checkpoint.is_readable or is_moved(connection, consumer.tables, checkpoint):
            return Clearance(name, None, _ELSEWHERE, is_stuck=True)
        behind += lag(connection, follower, checkpoint)
        statuses.add(checkpoint.status)
    awaits: str | None = None
    upto: datetime | None = now
    if writer is not None:
        awaits = f"{writer.who} has written events, and not committed them yet"
        upto = None if writer.begun is None else min(now, writer.begun - _JUST_BEFORE)
    if behind.oldest is not None:
        awaits = f"it has yet to take {behind.events} event{'s' if behind.events > 1 else ''}"
        awaits += next((f", and is {each}" for each in (STOPPED, WAITING) if each in statuses), "")
        upto = None if upto is None else min(upto, behind.oldest - _JUST_BEFORE)
    return Clearance(name, upto, awaits, is_stuck=behind.events > 0 and not statuses.isdisjoint((STOPPED, WAITING)))


def may_run(tables: EventSourceTables, clearances: Iterable[Clearance]) -> ColumnElement[bool]:
    """Select the commands that are no time-outs, and the time-outs of these process managers that have nothing to wait for."""
    return or_(*kinds_that_may_run(tables, clearances))


def kinds_that_may_run(tables: EventSourceTables, clearances: Iterable[Clearance]) -> list[ColumnElement[bool]]:
    """Select them one kind after the other: no time-outs, then those of each process manager. An index leads to each kind."""
    command = _columns(tables)
    return [
        command.process_type.is_(None),
        *(
            and_(
                command.process_type == each.process_type,
                command.due_at <= literal(each.upto, UtcDateTime),
                ~waits_for_parked(tables),
            )
            for each in clearances
            if each.upto is not None
        ),
    ]


def waits_for_parked(tables: EventSourceTables) -> ColumnElement[bool]:
    """Check whether an event is parked that was recorded before a time-out was due, and is its process's, or may be."""
    command, parked, events = _columns(tables), tables.parked_events, tables.events
    is_of_process = and_(parked.c.aggregate_type == command.process_type, parked.c.aggregate_id == command.process_id)
    # One that nobody can read is parked under its own stream, whichever process it is for.
    is_of_nobody_knows_whom = parked.c.aggregate_type != command.process_type
    return (
        exists()
        .where(
            parked.c.projection_name == command.process_type,
            or_(is_of_process, is_of_nobody_knows_whom),
            events.c.event_id == parked.c.event_id,
            events.c.recorded_at <= command.due_at,
        )
        .correlate(tables.commands)
    )


def release_time_outs(connection: Connection, tables: EventSourceTables, process_type: str) -> int:
    """Have the time-outs of a process manager that is gone wait for nothing but their time; return how many there were."""
    if tables.commands is None:
        return 0
    waits = or_(is_scheduled(tables.commands), is_parked_command(tables.commands))
    of_process = update(tables.commands).where(waits, tables.commands.c.process_type == process_type)
    return connection.execute(of_process.values(process_type=None, process_id=None)).rowcount


def _columns(tables: EventSourceTables) -> ReadOnlyColumnCollection[str, Column[Any]]:
    if tables.commands is None:
        raise AssertionError("time-outs are kept in a table of commands")
    return tables.commands.c
