"""Random programs, run in both worlds at once and compared after each step."""

from __future__ import annotations

import gc
from collections import Counter
from itertools import count
from typing import Any, ClassVar
from uuid import uuid4

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sqlalchemy import Engine, inspect

from tests.twin import vocabulary as v
from tests.twin.accounts import mend
from tests.twin.differences import same_error
from tests.twin.observer import Outcome, differing, look, observe
from tests.twin.worlds import HOOKS, OF_INSTANCES, AggregateWorld, Operation, Setting, TwinWorld, World

KEYS = "abcd"
SLOTS = 3
ATTRIBUTES = ((), (), ("marks",), ("total",), ("version",), ("id",), ("marks", "total"))


BEGINNINGS: tuple[tuple[Operation, ...], ...] = (
    (),
    (v.Get("a", 0),),
    (v.Get("a", 0), v.Get("b", 1), v.Change(0, ("m0",))),
    (v.New("c", 0, ("c0",)), v.Add(0), v.Get("a", 1)),
    (v.Get("a", 0), v.Flush(), v.BeginNested(), v.New("c", 1, ("c0",)), v.Add(1)),
)
"""How programs begin: a random walk would take long to have something in its hands."""


ORDERLESS = OF_INSTANCES - {
    "transient_to_pending",
    "detached_to_persistent",
    "loaded_as_persistent",
    "before_attach",
    "after_attach",
}
"""Called for several instances at once, in any order: what raises, or queries, in the middle of it has no one outcome."""

IN_MIDSTREAM = frozenset(
    {
        "after_begin",
        "after_rollback",
        "after_transaction_create",
        "after_transaction_end",
        "pending_to_transient",
        "persistent_to_transient",
    }
)
"""Called while a transaction is between two states: what an application does there with it, SQLAlchemy does not provide for."""


class Pair:
    """The two worlds, in step."""

    def __init__(self, ours: World, twins: World) -> None:
        """Begin with two accounts that are stored."""
        self.ours = ours
        self.twins = twins
        self.seen: Counter[str] = Counter()

    def step(self, operation: Operation) -> None:
        """Run an operation in both worlds, and demand that they look the same."""
        theirs = observe(self.twins, operation)
        our = observe(self.ours, operation)
        gc.collect()  # whether a cycle of references has been found yet is no difference
        problems = []
        if not same_error(our.error, theirs.error):
            problems.append(f"error: the aggregate's {our.told or None}, the twin's {theirs.told or None}")
        elif our.value != theirs.value:
            problems.append(f"result: the aggregate's {our.value!r}, the twin's {theirs.value!r}")
        if not set(our.warned) <= set(theirs.warned):
            problems.append(f"warnings: the aggregate's {our.warned}, the twin's {theirs.warned}")
        if heard_of(our) != heard_of(theirs):
            problems.append(f"events: the aggregate's {our.heard}, the twin's {theirs.heard}")
        problems += differing(look(self.ours), look(self.twins))
        assert not problems, "\n".join([f"after {operation!r}", *problems, f"(the twin raised {theirs.told or None})"])
        self.check_commit(operation, our.error)
        name = type(operation).__name__
        self.seen[name if our.error is None else f"{name} raising {our.error.__name__}"] += 1

    def check_commit(self, operation: Operation, error: type[BaseException] | None) -> None:
        """No commit returns while an instance in the session holds events that are not in the log."""
        if isinstance(operation, v.Commit) and error is None and not self.ours.session.in_transaction():
            held = [each for each in self.ours.session if getattr(each, "pending_events", ())]
            assert not held, f"the commit returned, and {held} hold events"

    def close(self) -> None:
        """End both worlds."""
        mend()
        self.ours.close()
        self.twins.close()


def heard_of(outcome: Outcome) -> tuple[str, ...]:
    """The session's events, except for those of the table: a query that fails may have told of instances, a flush asks why."""
    failed = () if outcome.error is None else ("loaded_as_persistent", "after_begin")
    silent = ("pending_to_transient", *failed)
    return tuple(each for each in outcome.heard if not each.startswith(silent))


class TwinMachine(RuleBasedStateMachine):
    """The rules. Subclasses say where the worlds are, and what the sessions can be made with."""

    engines: ClassVar[tuple[Engine, Engine]]
    settings: ClassVar[st.SearchStrategy[Setting]]
    seen: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.pair: Pair | None = None
        self.numbers = count(1)
        self.smudged = False
        self.tells_of_loading = False

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        mend()
        gc.collect()
        gc.freeze()  # the collection after each step need not go through what was there before
        setting = data.draw(self.settings, label="setting")
        prefix = uuid4().hex[:12]
        self.pair = self.make_pair(setting, prefix)
        self.do(v.Elsewhere("a", ("a0", "a1")))
        self.do(v.Elsewhere("b", ("b0",)))
        for operation in data.draw(st.sampled_from(BEGINNINGS), label="beginning"):
            self.do(operation)

    def make_pair(self, setting: Setting, prefix: str) -> Pair:
        return Pair(AggregateWorld(self.engines[0], setting, prefix), TwinWorld(self.engines[1], setting, prefix))

    def teardown(self) -> None:
        if self.pair is not None:
            self.pair.close()
            self.seen.update(self.pair.seen)

    def do(self, operation: Operation) -> None:
        assert self.pair is not None
        note(f"    {operation!r},")
        self.pair.step(operation)

    # -- what can be drawn ---------------------------------------------------------------------------------------------

    def marks(self, number: int = 1) -> tuple[str, ...]:
        return tuple(f"m{next(self.numbers)}" for _ in range(number))

    def filled(self) -> list[int]:
        return sorted(self.pair.twins.slots) if self.pair is not None else []

    def simple(self, data: st.DataObject) -> Operation:
        """Draw an operation that may be within a block."""
        key, slot = data.draw(st.sampled_from(KEYS)), data.draw(st.sampled_from(self.filled() or [0]))
        into = data.draw(st.one_of(st.none(), st.integers(0, SLOTS - 1)))
        drawn: Any = data.draw(
            st.sampled_from(
                [
                    v.ChangeUnheld(key, self.marks()),
                    v.Get(key, into),
                    v.Change(slot, self.marks()),
                    v.Flush(),
                    v.Read(slot),
                    v.ExpireAll(),
                    v.Collect(),
                    v.Forget(slot),
                    v.Expire(slot),
                    v.Add(slot),
                ]
            )
        )
        operation: Operation = drawn
        return operation

    # -- rules ---------------------------------------------------------------------------------------------------------

    @rule(key=st.sampled_from(KEYS), slot=st.integers(0, SLOTS - 1), number=st.sampled_from([1, 1, 2, 0]), add=st.booleans())
    def new(self, key: str, slot: int, number: int, add: bool) -> None:
        self.do(v.New(key, slot, self.marks(number)))
        if add:
            self.do(v.Add(slot))

    @rule(
        key=st.sampled_from(KEYS),
        slot=st.one_of(st.none(), st.integers(0, SLOTS - 1)),
        populate=st.sampled_from([False, False, True]),
    )
    def get(self, key: str, slot: int | None, populate: bool) -> None:
        self.do(v.Get(key, slot, populate))

    @rule(key=st.sampled_from(KEYS), number=st.integers(1, 2))
    def change_unheld(self, key: str, number: int) -> None:
        self.do(v.ChangeUnheld(key, self.marks(number)))

    @rule(
        keys=st.sampled_from([*KEYS, "ab", "abcd"]),
        slot=st.one_of(st.none(), st.integers(0, SLOTS - 1)),
        populate=st.sampled_from([False, False, True]),
        yield_per=st.sampled_from([None, None, 1]),
        limit=st.sampled_from([None, None, 1]),
        columns=st.sampled_from([False, False, False, True]),
    )
    def select(self, keys: str, slot: int | None, populate: bool, yield_per: int | None, limit: int | None, columns: bool) -> None:
        self.do(v.SelectColumns(tuple(keys)) if columns else v.Select(tuple(keys), slot, populate, yield_per, limit))

    @precondition(lambda self: self.filled())
    @rule(data=st.data(), number=st.integers(1, 2))
    def change(self, data: st.DataObject, number: int) -> None:
        self.do(v.Change(self.slot(data), self.marks(number)))

    @precondition(lambda self: self.filled())
    @rule(data=st.data())
    def change_refused(self, data: st.DataObject) -> None:
        slot = self.slot(data)
        assert self.pair is not None
        # The state of a detached one cannot be loaded again, nor can any be where no statement runs: see the table.
        if not inspect(self.pair.twins.slots[slot]).detached and self.pair.twins.has_connection:
            self.do(v.ChangeRefused(slot))

    @precondition(lambda self: self.filled())
    @rule(data=st.data(), into=st.sampled_from([None, 0]))
    def change_and_forget(self, data: st.DataObject, into: int | None) -> None:
        slot = self.slot(data)
        self.do(v.Change(slot, self.marks()))
        self.do(v.Forget(slot))
        if into is not None:
            self.do(v.Get("a", into))

    def slot(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(self.filled()), label="slot")

    @precondition(lambda self: self.filled())
    @rule(data=st.data(), attribute=st.sampled_from([None, "marks", "total", "version", "id"]))
    def read(self, data: st.DataObject, attribute: str | None) -> None:
        self.do(v.Read(self.slot(data), attribute))

    @precondition(lambda self: self.filled())
    @rule(data=st.data(), kind=st.sampled_from([v.Add, v.Expunge, v.Forget]))
    def on_instance(self, data: st.DataObject, kind: Any) -> None:
        self.do(kind(self.slot(data)))

    @precondition(lambda self: self.filled())
    @rule(data=st.data(), kind=st.sampled_from([v.Expire, v.Refresh]), attributes=st.deferred(lambda: st.sampled_from(ATTRIBUTES)))
    def expire_or_refresh(self, data: st.DataObject, kind: Any, attributes: tuple[str, ...]) -> None:
        slot = self.slot(data)
        assert self.pair is not None
        dirty = self.pair.twins.unflushed(self.pair.twins.slots[slot])  # a part of a change is no state of an aggregate
        self.do(kind(slot, () if dirty else attributes))

    @precondition(lambda self: self.filled())
    @rule(data=st.data(), into=st.integers(0, SLOTS - 1), add=st.booleans())
    def pickle(self, data: st.DataObject, into: int, add: bool) -> None:
        self.do(v.Pickle(self.slot(data), into))
        if add:
            self.do(v.Add(into))

    @rule()
    def flush(self) -> None:
        self.do(v.Flush())

    @rule()
    def commit(self) -> None:
        self.do(v.Commit())

    @precondition(lambda self: self.pair is not None and self.pair.twins.setting.twophase)
    @rule()
    def prepare(self) -> None:
        self.do(v.Prepare())

    @rule(operation=st.sampled_from([v.Rollback(), v.Rollback(), v.Close(), v.ExpireAll(), v.ExpungeAll(), v.Collect(), v.Begin()]))
    def on_session(self, operation: Operation) -> None:
        self.do(operation)

    @rule(data=st.data(), release=st.sampled_from([None, True, False]))
    def savepoint(self, data: st.DataObject, release: bool | None) -> None:
        assert self.pair is not None
        number = len(self.pair.twins.savepoints)
        if number == 0 or (release is None and number < 3):
            self.do(v.BeginNested())
        else:
            self.do(v.EndNested(data.draw(st.sampled_from([number - 1, number - 1, 0]), label="savepoint"), bool(release)))

    @rule(data=st.data(), nested=st.booleans(), raises=st.booleans(), size=st.integers(1, 3))
    def block(self, data: st.DataObject, nested: bool, raises: bool, size: int) -> None:
        self.do(v.Block(nested, tuple(self.simple(data) for _ in range(size)), raises))

    @rule(key=st.sampled_from(KEYS), number=st.integers(1, 2))
    def elsewhere(self, key: str, number: int) -> None:
        self.do(v.Elsewhere(key, self.marks(number)))

    @rule(data=st.data(), hook=st.sampled_from(HOOKS), key=st.sampled_from(KEYS))
    def arm(self, data: st.DataObject, hook: str, key: str) -> None:
        deeds: list[v.Deed] = ["change", "change", "add", "raise", "read", "get", "collect", "forget"]
        if hook in ORDERLESS:
            deeds = ["change", "read", "collect", "forget"]
        if hook in IN_MIDSTREAM:
            # after_begin is called once more for a flush of aggregates that fails, see the table.
            deeds = ["collect"] if hook == "after_begin" else ["collect", "forget"]
        if hook == "do_orm_execute":
            deeds.append("hide")
        if hook == "after_soft_rollback" and self.is_armed(hook):
            return  # it is called twice for a flush of aggregates that fails, see the table: where one raises, another would follow
        if hook == "loaded_as_persistent":
            if self.smudged:
                return
            self.tells_of_loading = True
        deed = data.draw(st.sampled_from(deeds), label="deed")
        slot = data.draw(st.sampled_from(self.filled() or [0]), label="slot")
        self.do(v.Arm(hook, deed, slot, key, *self.marks()))

    def is_armed(self, hook: str) -> bool:
        assert self.pair is not None
        return any(each.name == hook for world in (self.pair.ours, self.pair.twins) for each in world.armed)

    @precondition(lambda self: self.pair is not None and self.pair.twins.session.get_bind() is not None)
    @rule(data=st.data(), poison=st.booleans())
    def smudge(self, data: st.DataObject, poison: bool) -> None:
        assert self.pair is not None
        if self.pair.ours.setting.snapshots or self.tells_of_loading:
            return  # a snapshot is read without the events that it covers
        self.smudged = True
        # What is loaded already would be read again for a twin, and not for an aggregate.
        loaded = {self.pair.twins.key(each) for each in (*self.pair.twins.slots.values(), *self.pair.twins.session)}
        marks = [mark for key, stored in self.pair.twins.stored().items() if key not in loaded for mark in stored]
        self.do(v.Smudge(data.draw(st.sampled_from([None, *sorted(marks)]), label="mark"), poison))

    @rule(data=st.data(), commit=st.booleans())
    def leave(self, data: st.DataObject, commit: bool) -> None:
        assert self.pair is not None
        if self.pair.twins.transaction is not None:
            self.do(v.Leave(commit))

    @rule(
        data=st.data(),
        key=st.sampled_from(KEYS),
        which=st.sampled_from(["delete", "let go", "for update", "insert", "update", "erase"]),
    )
    def refused(self, data: st.DataObject, key: str, which: Any) -> None:
        match which:
            case "delete":
                if self.filled():
                    self.do(v.Delete(self.slot(data)))
            case "let go":
                if self.filled():
                    self.do(v.LetGo(self.slot(data), *self.marks()))
            case "for update":
                self.do(v.Get(key, for_update=True))
            case _:
                self.do(v.Bulk("delete" if which == "erase" else which, key))
