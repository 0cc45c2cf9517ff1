"""Random commands on aggregates in several sessions, against a model made of lists.

The model keeps, for every stream, its committed marks; for every session, a stack of levels (the transaction and its savepoints)
with the marks flushed in each, and what each instance in the session has seen and not yet flushed. From that it foretells every
result and every error. Sessions of one thread would wait for each other for ever, so a short ``lock_timeout`` ends each wait, and
the model foretells that as well.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Engine, create_engine, inspect, select
from sqlalchemy.exc import OperationalError, PendingRollbackError
from sqlalchemy.orm import Session, SessionTransaction

from sa_eventsource import ConcurrencyError, EventRecord
from tests.shop import AnyTill

from .tills import Base, SnapshotTill, Till

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Key = tuple[type[AnyTill], str]

CLASSES: tuple[type[AnyTill], ...] = (Till, SnapshotTill)
SERIALIZATION_FAILURE, LOCK_NOT_AVAILABLE = "40001", "55P03"


@dataclass(eq=False)
class Held:
    """An instance, and what the model knows of it."""

    instance: AnyTill
    key: Key
    is_new: bool
    seen: list[str] | None
    """Marks it was loaded with or has flushed; None while it is expired."""
    pending: list[str]


@dataclass
class Level:
    """A transaction or a savepoint."""

    flushed: dict[Key, list[str]] = field(default_factory=dict)
    new: set[Held] = field(default_factory=set)
    changed: set[Held] = field(default_factory=set)


@dataclass
class Failure:
    """A flush that will fail, and why."""

    blocked: bool
    conflicts: dict[str, tuple[int, int | None]]
    """Expected and actual version by id of the streams that have moved on."""
    hidden: bool = False
    """Whether the transaction may not be able to see the winner."""


class Worker:
    """A session and its model."""

    def __init__(self, engine: Engine, *, autoflush: bool, expire_on_commit: bool) -> None:
        self.session = Session(engine, autoflush=autoflush, expire_on_commit=expire_on_commit)
        self.autoflush = autoflush
        self.expire_on_commit = expire_on_commit
        self.held: dict[Key, Held] = {}
        self.transient: list[Held] = []
        self.levels = [Level()]
        self.savepoints: list[SessionTransaction] = []
        self.snapshot: dict[Key, list[str]] | None = None

    def flushed(self, key: Key) -> list[str]:
        return [mark for level in self.levels for mark in level.flushed.get(key, [])]


class SessionMachine(RuleBasedStateMachine):
    """The rules. Subclasses give the engine."""

    engine: Engine
    repeatable_read: bool
    single_writer: bool
    seen: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.prefix = uuid4().hex
        self.marks = count(1)
        self.numbers = count(1)
        self.committed: dict[Key, list[str]] = {}
        self.keys: list[Key] = []
        self.workers: list[Worker] = []
        self.seen["examples"] += 1

    @initialize(
        options=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=2, max_size=3),
        sizes=st.lists(st.tuples(st.sampled_from(CLASSES), st.integers(1, 4)), min_size=1, max_size=3),
    )
    def open_sessions(self, options: list[tuple[bool, bool, bool]], sizes: list[tuple[type[AnyTill], int]]) -> None:
        """Begin with a few streams that several sessions hold: a random walk would take long to meet its first conflict."""
        with Session(self.engine) as session:
            for kind, size in sizes:
                key, marks = (kind, f"{self.prefix}-{next(self.numbers)}"), self.new_marks(size)
                session.add(till := kind(id=key[1]))
                till.sell(*marks)
                self.keys.append(key)
                self.committed[key] = marks
            session.commit()
        for autoflush, expire_on_commit, loaded in options:
            worker = Worker(self.engine, autoflush=autoflush, expire_on_commit=expire_on_commit)
            self.workers.append(worker)
            if loaded:
                self.focus(worker)
                for key in self.keys:
                    instance = worker.session.get_one(*key)
                    worker.held[key] = Held(instance, key, is_new=False, seen=self.view(worker, key), pending=[])

    def teardown(self) -> None:
        for worker in self.workers:
            worker.session.close()

    # -- the model -----------------------------------------------------------------------------------------------------

    def view(self, worker: Worker, key: Key) -> list[str]:
        """What a statement of this session sees of a stream."""
        if self.repeatable_read:
            if worker.snapshot is None:
                worker.snapshot = {each: list(marks) for each, marks in self.committed.items()}
            base = worker.snapshot
        else:
            base = self.committed
        return [*base.get(key, []), *worker.flushed(key)]

    def model_flush(self, worker: Worker) -> Failure | None:
        writes = [held for held in worker.held.values() if held.pending]
        if not writes:
            return None
        self.view(worker, writes[0].key)
        failure = Failure(blocked=False, conflicts={})
        for held in writes:
            assert held.seen is not None
            base = len(held.seen)
            present = len(self.committed.get(held.key, [])) + len(worker.flushed(held.key))
            if present > base:
                failure.conflicts[held.key[1]] = (base, present)
            for other in self.workers:
                start = len(self.committed.get(held.key, []))
                end = start + len(other.flushed(held.key))
                if other is not worker and start < end and start < base + len(held.pending) and base < end:
                    failure.blocked = True
        failure.hidden = self.repeatable_read and (len(worker.levels) > 1 or failure.blocked)
        if failure.blocked or failure.conflicts:
            self.model_undo(worker)
            for kind, aggregate_id in [held.key for held in writes if held.key[1] in failure.conflicts]:
                # The version is looked up after the rollback; what the session itself had flushed is gone by then.
                base = failure.conflicts[aggregate_id][0]
                left = len(self.committed.get((kind, aggregate_id), [])) + len(worker.flushed((kind, aggregate_id)))
                failure.conflicts[aggregate_id] = (base, left if left != base else None)
            return failure
        level = worker.levels[-1]
        for held in writes:
            assert held.seen is not None
            level.flushed.setdefault(held.key, []).extend(held.pending)
            held.seen = held.seen + held.pending
            (level.new if held.is_new else level.changed).add(held)
            held.is_new, held.pending = False, []
            self.seen["aggregates flushed"] += 1
        return None

    def model_undo(self, worker: Worker) -> None:
        """What a rollback of the innermost level does to instances; the level itself stays, empty."""
        level = worker.levels[-1]
        for key, held in list(worker.held.items()):
            if held.is_new or held in level.new:
                flushed = worker.flushed(key) if not held.is_new else []
                held.pending = [*flushed, *held.pending]
                held.seen, held.is_new = [], True
                del worker.held[key]
                worker.transient.append(held)
            elif len(worker.levels) == 1 or held.pending or held in level.changed:
                held.seen, held.pending = None, []
        worker.levels[-1] = Level()

    def model_rollback(self, worker: Worker, *, undone: bool = False) -> None:
        while True:
            if not undone:
                self.model_undo(worker)
            undone = False
            if len(worker.levels) == 1:
                break
            worker.levels.pop()
        worker.savepoints.clear()
        worker.levels = [Level()]
        worker.snapshot = None

    # -- doing things --------------------------------------------------------------------------------------------------

    def attempt(
        self, worker: Worker, action: Callable[[], T], failure: Failure | None, *, recover_outside: bool = True
    ) -> T | None:
        """Run *action*; where the model says that a flush in it fails, check the error and roll back."""
        if failure is None:
            return action()
        with pytest.raises((ConcurrencyError, OperationalError)) as caught:
            action()
        error = caught.value
        if isinstance(error, ConcurrencyError):
            assert error.aggregate_id in failure.conflicts, (error, failure)
            base, present = failure.conflicts[error.aggregate_id]
            assert error.expected_version == base
            # Where the isolation level hides the winner from the loser's transaction, the version found is not told.
            assert error.actual_version == present or (failure.hidden and error.actual_version is None)
            assert not failure.blocked or failure.hidden
            self.seen["conflicts"] += 1
        else:
            state = getattr(getattr(error, "orig", None), "sqlstate", None)
            expected = {LOCK_NOT_AVAILABLE} if failure.blocked else set()
            if failure.hidden and failure.conflicts:
                expected.add(SERIALIZATION_FAILURE)
            assert state in expected, (error, failure)
            self.seen["waits" if state == LOCK_NOT_AVAILABLE else "serialization failures"] += 1
        if worker.savepoints and not recover_outside:
            worker.savepoints.pop().rollback()
            worker.levels.pop()
        else:
            worker.session.rollback()
            self.model_rollback(worker, undone=True)
        return None

    def focus(self, worker: Worker) -> None:
        """On a database with one writer: end the other sessions' transactions first."""
        if self.single_writer:
            for other in self.workers:
                if other is not worker and other.session.in_transaction():
                    self.commit_worker(other)

    def choose_worker(self, data: st.DataObject) -> Worker:
        worker = data.draw(st.sampled_from(self.workers), label="session")
        self.focus(worker)
        return worker

    def choose_held(self, data: st.DataObject, *, stored: bool = False) -> tuple[Worker, Held] | None:
        candidates = [(worker, held) for worker in self.workers for held in worker.held.values() if not (stored and held.is_new)]
        if not candidates:
            return None
        worker, held = data.draw(st.sampled_from(candidates), label="aggregate")
        self.focus(worker)
        return worker, held

    def commit_worker(self, worker: Worker) -> None:
        failure = self.model_flush(worker)
        if failure is None:
            for level in worker.levels:
                for key, marks in level.flushed.items():
                    self.committed.setdefault(key, []).extend(marks)
                    self.seen["events committed"] += len(marks)
            worker.levels = [Level()]
            worker.savepoints.clear()
            worker.snapshot = None
            self.seen["commits"] += 1
            if worker.expire_on_commit:
                for held in worker.held.values():
                    held.seen = None
        self.attempt(worker, worker.session.commit, failure)

    def model_load(self, worker: Worker, held: Held) -> Failure | None:
        """An expired instance is read: SQLAlchemy flushes first."""
        if held.seen is None and not held.is_new:
            failure = self.model_flush(worker) if worker.autoflush else None
            if failure is not None:
                return failure
            held.seen, held.pending = self.view(worker, held.key), []
        return None

    def new_marks(self, number: int) -> list[str]:
        return [f"{next(self.marks)}" for _ in range(number)]

    # -- rules ---------------------------------------------------------------------------------------------------------

    @rule(data=st.data(), kind=st.sampled_from(CLASSES), number=st.integers(1, 4), known=st.booleans())
    def new(self, data: st.DataObject, kind: type[AnyTill], number: int, known: bool) -> None:
        worker = self.choose_worker(data)
        rivals = [key for key in self.keys if key not in worker.held]
        key = data.draw(st.sampled_from(rivals)) if known and rivals else (kind, f"{self.prefix}-{next(self.numbers)}")
        marks = self.new_marks(number)
        till = key[0](id=key[1])
        till.sell(*marks)
        worker.session.add(till)
        worker.held[key] = Held(till, key, is_new=True, seen=[], pending=marks)
        if key not in self.keys:
            self.keys.append(key)

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data(), number=st.integers(1, 2), outside=st.booleans())
    def apply_and_flush(self, data: st.DataObject, number: int, outside: bool) -> None:
        """Two rules at once: these are what makes conflicts, and rules come up equally often."""
        chosen = self.choose_held(data)
        if chosen is not None:
            worker, held = chosen
            if self.change(worker, held, number, outside) is None:
                self.attempt(worker, worker.session.flush, self.model_flush(worker), recover_outside=outside)

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data(), number=st.integers(1, 2), outside=st.booleans())
    def apply_and_commit(self, data: st.DataObject, number: int, outside: bool) -> None:
        """As above."""
        chosen = self.choose_held(data)
        if chosen is not None:
            worker, held = chosen
            if self.change(worker, held, number, outside) is None:
                self.commit_worker(worker)

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data(), number=st.integers(1, 4), outside=st.booleans())
    def apply(self, data: st.DataObject, number: int, outside: bool) -> None:
        chosen = self.choose_held(data)
        if chosen is not None:
            self.change(*chosen, number, outside)

    def change(self, worker: Worker, held: Held, number: int, outside: bool) -> Failure | None:
        marks = self.new_marks(number)
        failure = self.model_load(worker, held)
        if failure is None:
            held.pending = held.pending + marks
        self.attempt(worker, lambda: held.instance.sell(*marks), failure, recover_outside=outside)
        return failure

    @precondition(lambda self: self.shared_keys())
    @rule(data=st.data(), number=st.integers(1, 3), commits=st.booleans(), in_savepoint=st.booleans(), outside=st.booleans())
    def race(self, data: st.DataObject, number: int, commits: bool, in_savepoint: bool, outside: bool) -> None:
        """Two sessions that hold the same aggregate change it; the second may have flushed others before."""
        key = data.draw(st.sampled_from(self.shared_keys()), label="id")
        holders = data.draw(st.permutations([worker for worker in self.workers if key in worker.held]), label="sessions")
        first, second = holders[:2]
        for each in (first, second):
            self.focus(each)
            if key in each.held and self.load_and_read(each, each.held[key], outside):
                return
        self.focus(first)
        if key not in first.held or self.change(first, first.held[key], number, outside) is not None:
            return
        if commits or self.single_writer:
            self.commit_worker(first)
        else:
            self.attempt(first, first.session.flush, self.model_flush(first), recover_outside=outside)
        if in_savepoint:
            self.open_savepoint(second, outside)
        if key not in second.held:
            return
        for held in data.draw(st.lists(st.sampled_from(list(second.held.values())), unique=True), label="others"):
            if held.key in second.held and self.change(second, held, 1, outside) is not None:
                return
        if data.draw(st.booleans(), label="flush between"):
            flushed = self.model_flush(second)
            self.attempt(second, second.session.flush, flushed, recover_outside=outside)
        if key in second.held and self.change(second, second.held[key], number, outside) is None:
            self.attempt(second, second.session.flush, self.model_flush(second), recover_outside=outside)

    def shared_keys(self) -> list[Key]:
        return [key for key in self.keys if sum(key in worker.held for worker in self.workers) > 1]

    def load_and_read(self, worker: Worker, held: Held, outside: bool) -> Failure | None:
        failure = self.model_load(worker, held)
        self.attempt(worker, lambda: held.instance.sold, failure, recover_outside=outside)
        return failure

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data(), outside=st.booleans())
    def read(self, data: st.DataObject, outside: bool) -> None:
        chosen = self.choose_held(data)
        if chosen is not None:
            self.load_and_read(*chosen, outside)

    @rule(data=st.data(), outside=st.booleans())
    def flush(self, data: st.DataObject, outside: bool) -> None:
        worker = self.choose_worker(data)
        self.attempt(worker, worker.session.flush, self.model_flush(worker), recover_outside=outside)

    @rule(data=st.data())
    def refused_after_failure(self, data: st.DataObject) -> None:
        """A failed flush must not let anything through before it is rolled back."""
        worker = self.choose_worker(data)
        failure = self.model_flush(worker)
        if failure is None:
            worker.session.flush()
            return

        def fail() -> None:
            try:
                worker.session.flush()
            finally:
                with pytest.raises(PendingRollbackError):
                    worker.session.connection()

        self.attempt(worker, fail, failure)

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        self.commit_worker(self.choose_worker(data))

    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        worker = self.choose_worker(data)
        if worker.session.in_transaction():
            worker.session.rollback()
            self.model_rollback(worker)

    @rule(data=st.data(), outside=st.booleans())
    def begin_nested(self, data: st.DataObject, outside: bool) -> None:
        self.open_savepoint(self.choose_worker(data), outside)

    def open_savepoint(self, worker: Worker, outside: bool) -> None:
        failure = self.model_flush(worker)
        savepoint = self.attempt(worker, worker.session.begin_nested, failure, recover_outside=outside)
        if savepoint is not None:
            worker.savepoints.append(savepoint)
            worker.levels.append(Level())
            self.seen["savepoints"] += 1

    @precondition(lambda self: any(worker.savepoints for worker in self.workers))
    @rule(data=st.data(), release=st.booleans())
    def end_savepoint(self, data: st.DataObject, release: bool) -> None:
        candidates = [worker for worker in self.workers if worker.savepoints]
        if not candidates:
            return
        worker = data.draw(st.sampled_from(candidates), label="session")
        self.focus(worker)
        if not release:
            worker.savepoints.pop().rollback()
            self.model_undo(worker)
            worker.levels.pop()
            return
        failure = self.model_flush(worker)
        self.attempt(worker, worker.savepoints[-1].commit, failure)
        if failure is None:
            worker.savepoints.pop()
            inner = worker.levels.pop()
            outer = worker.levels[-1]
            outer.new |= inner.new
            outer.changed |= inner.changed
            for key, marks in inner.flushed.items():
                outer.flushed.setdefault(key, []).extend(marks)

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        chosen = self.choose_held(data, stored=True)
        if chosen is not None:
            worker, held = chosen
            worker.session.expire(held.instance)
            held.seen, held.pending = None, []

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data(), outside=st.booleans())
    def refresh(self, data: st.DataObject, outside: bool) -> None:
        chosen = self.choose_held(data, stored=True)
        if chosen is not None:
            worker, held = chosen
            # SQLAlchemy expires the instance first: what it had not flushed is discarded, as any entity's changes are.
            held.seen, held.pending = None, []
            failure = self.model_flush(worker) if worker.autoflush else None
            if failure is None:
                held.seen = self.view(worker, held.key)
            self.attempt(worker, lambda: worker.session.refresh(held.instance), failure, recover_outside=outside)

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), outside=st.booleans())
    def get(self, data: st.DataObject, outside: bool) -> None:
        worker = self.choose_worker(data)
        key = data.draw(st.sampled_from(self.keys), label="id")
        held = worker.held.get(key)
        if held is not None and held.is_new and not worker.autoflush and self.view(worker, key):
            return  # would put a second instance beside the new one
        failure = None
        if held is None or held.is_new:
            failure = self.model_flush(worker) if worker.autoflush else None
        elif held.seen is None:
            failure = self.model_load(worker, held)
        visible = failure is None and bool(self.view(worker, key))
        found = self.attempt(worker, lambda: worker.session.get(*key), failure, recover_outside=outside)
        if not visible:
            assert found is None
        elif held is not None:
            assert found is held.instance
        else:
            assert found is not None
            worker.held[key] = Held(found, key, is_new=False, seen=self.view(worker, key), pending=[])

    @precondition(lambda self: self.keys)
    @rule(data=st.data(), kind=st.sampled_from(CLASSES), populate=st.booleans(), outside=st.booleans())
    def select(self, data: st.DataObject, kind: type[AnyTill], populate: bool, outside: bool) -> None:
        worker = self.choose_worker(data)
        failure = self.model_flush(worker) if worker.autoflush else None
        keys = [key for key in self.keys if key[0] is kind and not ((held := worker.held.get(key)) and held.is_new)]
        wanted: list[Key] = data.draw(st.lists(st.sampled_from(keys), unique=True)) if keys else []
        statement = select(kind).where(kind.id.in_([key[1] for key in wanted])).execution_options(populate_existing=populate)
        found = self.attempt(worker, lambda: worker.session.scalars(statement).all(), failure, recover_outside=outside)
        if failure is not None:
            return
        assert found is not None
        instances = {each.id: each for each in found}
        assert len(instances) == len(found)
        visible = {key: marks for key in wanted if (marks := self.view(worker, key))}
        self.view(worker, (kind, ""))
        assert instances.keys() == {key[1] for key in visible}
        for key, marks in visible.items():
            held = worker.held.get(key)
            if held is None:
                worker.held[key] = Held(instances[key[1]], key, is_new=False, seen=marks, pending=[])
                continue
            assert instances[key[1]] is held.instance
            if held.seen is None or populate:
                held.seen, held.pending = marks, []

    @precondition(lambda self: any(worker.transient for worker in self.workers))
    @rule(data=st.data())
    def add_again(self, data: st.DataObject) -> None:
        """What a rollback made transient can be added once more, with its events."""
        candidates = [(worker, held) for worker in self.workers for held in worker.transient if held.key not in worker.held]
        if candidates:
            worker, held = data.draw(st.sampled_from(candidates), label="aggregate")
            self.focus(worker)
            if held.key in worker.held:
                return
            worker.transient.remove(held)
            worker.session.add(held.instance)
            worker.held[held.key] = held
            self.seen["added again"] += 1

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data())
    def expunge_and_add(self, data: st.DataObject) -> None:
        chosen = self.choose_held(data)
        if chosen is not None:
            worker, held = chosen
            worker.session.expunge(held.instance)
            worker.session.add(held.instance)

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        """An instance that was loaded in one session goes on in another, with the events it has not flushed."""
        chosen = self.choose_held(data, stored=True)
        if chosen is None:
            return
        worker, held = chosen
        taker = data.draw(st.sampled_from(self.workers), label="to")
        if self.repeatable_read or worker.flushed(held.key) or held.key in taker.held:
            return
        worker.session.expunge(held.instance)
        del worker.held[held.key]
        self.focus(taker)
        taker.session.add(held.instance)
        taker.held[held.key] = held

    @rule(data=st.data(), options=st.tuples(st.booleans(), st.booleans()))
    def reopen(self, data: st.DataObject, options: tuple[bool, bool]) -> None:
        worker = self.choose_worker(data)
        worker.session.close()
        self.workers[self.workers.index(worker)] = Worker(self.engine, autoflush=options[0], expire_on_commit=options[1])

    # -- checks --------------------------------------------------------------------------------------------------------

    @invariant()
    def instances_are_as_foretold(self) -> None:
        self.seen["steps"] += 1
        for worker in self.workers:
            new = {held.instance for held in worker.held.values() if held.is_new}
            assert set(worker.session.new) == new
            assert set(worker.session.identity_map.values()) == {held.instance for held in worker.held.values() if not held.is_new}
            for held in worker.held.values():
                self.compare(held)
            for held in worker.transient:
                assert inspect(held.instance).transient
                self.compare(held)

    def compare(self, held: Held) -> None:
        if held.seen is None:
            assert "version" not in vars(held.instance)
            assert "sold" not in vars(held.instance)
            return
        assert vars(held.instance)["sold"] == (*held.seen, *held.pending)
        assert held.instance.id == held.key[1]
        assert held.instance.version == len(held.seen) + len(held.pending)
        assert [getattr(each, "what", None) for each in held.instance.pending_events] == held.pending

    @invariant()
    def log_is_as_foretold(self) -> None:
        statement = (
            select(EventRecord.aggregate_type, EventRecord.aggregate_id, EventRecord.version, EventRecord.event_data)
            .where(EventRecord.aggregate_id.startswith(self.prefix))
            .order_by(EventRecord.position)
        )
        if self.single_writer and any(worker.session.in_transaction() for worker in self.workers):
            return
        streams: dict[tuple[str, str], list[str]] = {}
        with self.engine.connect() as connection:
            for aggregate_type, aggregate_id, version, data in connection.execute(statement):
                marks = streams.setdefault((aggregate_type, aggregate_id), [])
                marks.append(data["what"])
                assert version == len(marks)
        assert streams == {(key[0].__aggregate_type__, key[1]): marks for key, marks in self.committed.items()}


def run(machine_engine: Engine, *, repeatable_read: bool = False, single_writer: bool = False) -> None:
    Base.metadata.create_all(machine_engine)
    machine_seen: Counter[str] = Counter()

    class Machine(SessionMachine):
        engine = machine_engine
        seen = machine_seen

    Machine.repeatable_read, Machine.single_writer = repeatable_read, single_writer
    chosen = settings(
        max_examples=2 * settings().max_examples,
        stateful_step_count=40,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        phases=[phase for phase in Phase if phase is not Phase.explain],
    )
    run_state_machine_as_test(Machine, settings=chosen)
    print(", ".join(f"{number} {what}" for what, number in sorted(machine_seen.items())))
    expected = {"events committed", "conflicts", "savepoints"} | (set() if single_writer else {"waits"})
    assert all(machine_seen[what] for what in expected), f"the commands proved too little: {machine_seen}"


@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", pytest.param("REPEATABLE READ", marks=pytest.mark.slow)])
def test_sessions_agree_with_the_model_on_postgresql(postgres_database_url: str, isolation_level: Any) -> None:
    """Two or three sessions at a time, with writes open in each."""
    engine = create_engine(postgres_database_url, isolation_level=isolation_level, connect_args={"options": "-c lock_timeout=20ms"})
    try:
        run(engine, repeatable_read=isolation_level == "REPEATABLE READ")
    finally:
        engine.dispose()


@pytest.mark.slow
def test_sessions_agree_with_the_model_on_sqlite(sqlite_engine: Engine) -> None:
    """One session in a transaction at a time; conflicts come from instances that outlived theirs."""

    run(sqlite_engine, single_writer=True)
