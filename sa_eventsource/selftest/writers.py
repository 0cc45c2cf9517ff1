"""A writer: an application that appends events, in every way that transactions take, and notes what it knows of them."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Text, cast, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sa_eventsource.exceptions import ConcurrencyError, ReadModelLagError
from sa_eventsource.projections import wait_for
from sa_eventsource.selftest.plan import Entry, Unit, Units
from sa_eventsource.selftest.subjects import SUBJECTS, Receipt, Subject, Trails
from sa_eventsource.session import commit_token
from sa_eventsource.store import DEADLOCK, SERIALIZATION_FAILURE, Meaning, code_of, meaning_of

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from sa_eventsource.selftest.journal import Journal, Outcome

_ATTEMPTS = 20
_STREAMS_LAST = 2.0
"""Seconds for which streams are in use: so they keep to some dozens of events, however long the run."""
_PATIENCE = 20.0
"""Seconds for which a writer waits for a read model: workers are killed meanwhile."""


@dataclass(slots=True)
class Writer:
    """One writer.

    Attributes:
        name: Unique in the run; the transactions are named after it.
        engine: Whose connections may be cut.
        journal: Where it notes what it knows.
        chance: What it draws from.
        begun: When the run began; all writers use the same streams at the same time.
    """

    name: str
    engine: Engine
    journal: Journal
    chance: random.Random
    begun: float

    def run(self, stop: threading.Event) -> None:
        """Write until told to stop."""
        units = Units(self.chance)
        numbers = itertools.count()
        while not stop.is_set():
            unit = units.draw()
            name = f"{self.name}.{next(numbers)}"
            if unit.kind == "duel":
                self._fight(name, unit)
            else:
                self._until_it_is_not_refused(name, unit)
            stop.wait(self.chance.expovariate(100))

    def begin_the_log(self) -> None:
        """Append the first event while nobody else writes: with it, strong models note that they have had all events."""
        self._attempt(f"{self.name}.0", Unit("plain", (Entry(0, 1, 0),), "READ COMMITTED"))

    def _until_it_is_not_refused(self, name: str, unit: Unit) -> None:
        for attempt in range(_ATTEMPTS):
            outcome = self._attempt(f"{name}.{attempt}", unit)
            if outcome != "refused":
                return
            time.sleep(self.chance.uniform(0, 0.02))

    def _attempt(self, name: str, unit: Unit) -> Outcome:
        undone = len(unit.entries) if unit.kind == "savepoint undone" else 0
        with _Attempt(self.journal, name, len(unit.entries), undone).known() as attempt, Session(self.engine) as session:
            _begin(session, attempt, unit.level)
            if undone:
                savepoint = session.begin_nested()
                self._enter(session, unit, f"{name}/undone")
                session.flush()
                savepoint.rollback()
            with session.begin_nested() if unit.kind == "savepoint kept" else nullcontext():
                marks = self._enter(session, unit, name)
            if unit.hold:
                session.flush()
                time.sleep(unit.hold)
            if unit.kind == "rolled back":
                session.flush()
                session.rollback()
                attempt.outcome = "rolled back"
            else:
                attempt.commit(session)
                if unit.kind == "read":
                    self._read_own_writes(session, marks)
        return attempt.outcome

    def _enter(self, session: Session, unit: Unit, name: str) -> dict[str, str]:
        """Append the events of a unit; give the last mark of each stream."""
        marks = {}
        for number, entry in enumerate(unit.entries):
            subject_class, subject_id = self._subject(entry)
            subject = session.get(subject_class, subject_id)
            if subject is None:
                session.add(subject := subject_class(id=subject_id))
            marks[subject_id] = f"{name}/{number}"
            subject.enter(marks[subject_id], entry.amount, entry.place)
            if unit.kind == "several flushes":
                session.flush()
        return marks

    def _subject(self, entry: Entry) -> tuple[type[Subject], str]:
        subject_class = SUBJECTS[entry.subject % len(SUBJECTS)]
        return subject_class, f"{subject_class.__name__}-{entry.subject}-{int((time.time() - self.begun) / _STREAMS_LAST)}"

    def _read_own_writes(self, session: Session, marks: dict[str, str]) -> None:
        """Wait until a read model has taken what was committed, and look whether its rows have it."""
        token = commit_token(session)
        if token is None:
            self.journal.note("read", "a commit that wrote events left no token")
            return
        try:
            wait_for(session, Trails, after=token, timeout=_PATIENCE)
            with Session(self.engine) as fresh:
                trails = {subject_id: fresh.get(Trails, subject_id) for subject_id in marks}
        except ReadModelLagError:
            self.journal.note("read too late")
            return
        except DBAPIError as error:
            if meaning_of(error) is not Meaning.SERVER_AWAY:
                raise
            return
        for subject_id, mark in marks.items():
            trail = trails[subject_id]
            is_there = trail is not None and mark in trail.marks
            self.journal.note("read", None if is_there else f"wait_for() returned, and the row of {subject_id} has no {mark}")

    def _fight(self, name: str, unit: Unit) -> None:
        """Let two sessions that have seen the same version of a stream append to it at once; the stream is nobody else's."""
        (entry,) = unit.entries
        subject_class = SUBJECTS[entry.subject % len(SUBJECTS)]
        subject_id = f"duel-{name}"
        attempts = [_Attempt(self.journal, f"{name}.{side}", 1, 0) for side in ("left", "right")]
        together = threading.Barrier(len(attempts))

        def append(attempt: _Attempt) -> None:
            with attempt.known(), Session(self.engine) as session:
                try:
                    _begin(session, attempt, unit.level)
                    subject = session.get(subject_class, subject_id)
                finally:
                    together.wait()
                if subject is None:
                    session.add(subject := subject_class(id=subject_id))
                subject.enter(f"{attempt.name}/0", entry.amount, entry.place)
                attempt.commit(session)

        if entry.amount >= 0 and not self._prepare_the_field(f"{name}.before", subject_class, subject_id):
            return
        self.journal.note("duel", *(each.name for each in attempts))
        with ThreadPoolExecutor(len(attempts)) as threads:
            list(threads.map(append, attempts))

    def _prepare_the_field(self, name: str, subject_class: type[Subject], subject_id: str) -> bool:
        """Give the stream a first event, so that both find it at version 1; tell whether that is certain."""
        with _Attempt(self.journal, name, 1, 0).known() as attempt, Session(self.engine) as session:
            _begin(session, attempt, "READ COMMITTED")
            session.add(subject := subject_class(id=subject_id))
            subject.enter(f"{name}/0", 1, 0)
            attempt.commit(session)
        return attempt.outcome == "committed"


def _begin(session: Session, attempt: _Attempt, level: str) -> None:
    session.connection(execution_options={"isolation_level": level})
    snapshot = session.scalar(select(cast(func.pg_current_snapshot(), Text)))
    session.add(Receipt(transaction=attempt.name, events=attempt.events, snapshot=snapshot))


@dataclass(slots=True)
class _Attempt:
    """One transaction, from its first line in the journal to its last."""

    journal: Journal
    name: str
    events: int
    undone: int
    outcome: Outcome = "cut"

    def commit(self, session: Session) -> None:
        self.outcome = "unknown"
        session.commit()
        self.outcome = "committed"

    @contextmanager
    def known(self) -> Iterator[_Attempt]:
        """Note what happens to the transaction in the block; errors that a writer has to expect end here.

        Whoever loses the connection while COMMIT is on its way knows nothing. Whoever loses it before, or is told that another
        transaction was first, knows that nothing is committed.
        """
        self.journal.note("begun", self.name, self.events, self.undone)
        try:
            yield self
        except ConcurrencyError as error:
            self.outcome = "refused"
            self.journal.note(
                "lost against", self.name, error.aggregate_type, error.aggregate_id, error.expected_version, error.actual_version
            )
        except DBAPIError as error:
            if code_of(error) in (DEADLOCK, SERIALIZATION_FAILURE):
                self.outcome = "refused"
                self.journal.note("deadlock" if code_of(error) == DEADLOCK else "serialization failure")
            elif meaning_of(error) is not Meaning.SERVER_AWAY:
                raise
        self.journal.note("ended", self.name, self.outcome)
