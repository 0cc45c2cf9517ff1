"""Programs that once came out in two ways."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tests.twin import vocabulary as v
from tests.twin.machine import Pair
from tests.twin.worlds import AggregateWorld, Operation, Setting, TwinWorld

PROGRAMS: dict[str, tuple[Operation, ...]] = {
    "hooks change an instance in the order in which they are called": (
        v.Elsewhere("a", ("a0",)),
        v.Get("a", 0),
        v.Change(0, ("m1",)),
        v.Arm("after_flush_postexec", "change", 0, "a", "m2"),
        v.Arm("pending_to_persistent", "change", 0, "a", "m3"),
        v.Arm("after_flush", "change", 0, "a", "m4"),
        v.Arm("after_flush", "change", 0, "a", "m5"),
        v.New("c", 1, ("c0",)),
        v.Add(1),
        v.Commit(),
        v.Read(0),
    ),
    "a savepoint is rolled back around one that has written": (
        v.Elsewhere("a", ("a0",)),
        v.Get("a", 0),
        v.BeginNested(),
        v.BeginNested(),
        v.Change(0, ("m1",)),
        v.New("c", 1, ("c0",)),
        v.Add(1),
        v.Flush(),
        v.EndNested(0, release=False),
        v.Read(0),
        v.Read(1),
    ),
    "a flush that fails undoes what a savepoint has written of an instance that was loaded since": (
        v.Elsewhere("b", ("b0",)),
        v.BeginNested(),
        v.New("c", 1, ("c0",)),
        v.Add(1),
        v.Flush(),
        v.Forget(1),
        v.Get("c", 1),
        v.New("b", 2, ("b1", "b2")),
        v.Add(2),
        v.Flush(),
    ),
    "a hook changes an instance that is detached and expired": (
        v.Elsewhere("a", ("a0",)),
        v.Get("a", 0),
        v.ExpireAll(),
        v.Expunge(0),
        v.Arm("pending_to_persistent", "change", 0, "a", "m1"),
        v.New("c", 1, ("c0",)),
        v.Add(1),
        v.Flush(),
    ),
}


@pytest.mark.parametrize("listening", [False, True], ids=["", "listening"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program(sqlite_engines: tuple[Engine, Engine], program: str, listening: bool) -> None:
    setting = Setting(listening=listening)
    pair = Pair(AggregateWorld(sqlite_engines[0], setting, "p"), TwinWorld(sqlite_engines[1], setting, "p"))
    try:
        for operation in PROGRAMS[program]:
            pair.step(operation)
    finally:
        pair.close()
