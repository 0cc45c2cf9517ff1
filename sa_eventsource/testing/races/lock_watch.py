"""What PostgreSQL knows of the actors' connections: what they have locked, and who waits for whom."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sa_eventsource.testing.races.catalog import Catalog
from sa_eventsource.testing.races.touched import Touched

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_FIRST_OF_USERS = 16384
"""Relations with lower numbers are PostgreSQL's own catalogs, which any statement reads."""

_LOCKS = """
SELECT pid, locktype, relation::bigint, coalesce(classid::bigint, 0), coalesce(objid::bigint, 0), coalesce(objsubid, 0),
       mode, granted, coalesce(clock_timestamp() - waitstart > interval '3 ms', false)
FROM pg_locks WHERE pid IN ({}) AND (NOT granted OR locktype IN ('relation', 'advisory'))
"""
_BLOCKERS = "SELECT pid, pg_blocking_pids(pid) || pg_safe_snapshot_blocking_pids(pid) FROM unnest(ARRAY[{}]) AS pid"
_DEFERRED = (
    "SELECT EXISTS (SELECT FROM pg_constraint WHERE condeferrable AND oid >= 16384) "
    "OR EXISTS (SELECT FROM pg_trigger WHERE tgdeferrable AND oid >= 16384)"
)
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN ({})"


class Asks(Protocol):
    """Who runs a query alongside the actors."""

    def ask(self, query: str) -> Sequence[Sequence[Any]]:
        """Run a query that takes no parameters."""
        ...


@dataclass(frozen=True, slots=True)
class Locks:
    """What connections hold and wait for, by the numbers of their server processes.

    Attributes:
        touched: What each has touched in its transaction.
        waiting: Who waits for a lock.
        settled: Whoever has waited for so long that PostgreSQL has looked for a deadlock by now.
    """

    touched: Mapping[int, Touched]
    waiting: frozenset[int]
    settled: frozenset[int]


class LockWatch:
    """Asks PostgreSQL for the locks of the actors, on a connection of its own."""

    def __init__(self, door: Asks) -> None:
        """Watch through *door*."""
        self._door = door
        self.has_deferred_checks = bool(door.ask(_DEFERRED)[0][0])
        self.catalog = Catalog.read(door.ask)

    def locks(self, pids: Collection[int]) -> Locks:
        """Get what connections hold and wait for."""
        if not pids:
            return Locks({}, frozenset(), frozenset())
        rows = self._door.ask(_LOCKS.format(", ".join(map(str, sorted(pids)))))
        newest = max((relation or 0 for _, _, relation, *_ in rows), default=0)
        if newest > self.catalog.newest:
            self.catalog = Catalog.read(self._door.ask)
            self.catalog.newest = max(self.catalog.newest, newest)
        held: dict[int, list[tuple[int, str]]] = defaultdict(list)
        waiting, settled = set(), set()
        for pid, kind, relation, classid, objid, objsubid, mode, is_granted, has_settled in rows:
            if not is_granted:
                waiting.add(pid)
                if has_settled:
                    settled.add(pid)
            if relation is not None:  # the lock of a row is no lock of its table
                held[pid].append((relation, mode if kind == "relation" else "RowExclusiveLock"))
            elif kind == "advisory":
                held[pid].append((-1 - hash((classid, objid, objsubid)) % (1 << 61), "advisory"))
        return Locks({pid: self._touched(each) for pid, each in held.items()}, frozenset(waiting), frozenset(settled))

    def blockers(self, pids: Collection[int]) -> dict[int, frozenset[int]]:
        """Get whom each connection waits for."""
        if not pids:
            return {}
        rows = self._door.ask(_BLOCKERS.format(", ".join(map(str, sorted(pids)))))
        return {pid: frozenset(blocking) for pid, blocking in rows}

    def end(self, pids: Collection[int]) -> None:
        """Cut connections off."""
        if pids:
            self._door.ask(_END.format(", ".join(map(str, sorted(pids)))))

    def _touched(self, held: Sequence[tuple[int, str]]) -> Touched:
        read, locked, written, whole, drawn = set(), set(), set(), set(), set()
        for relation, mode in held:
            if mode == "advisory":
                locked.add(relation)
            elif relation in self.catalog.sequences:
                drawn.add(relation)
            elif relation not in self.catalog.indexes and (relation >= _FIRST_OF_USERS or mode != "AccessShareLock"):
                read.add(relation)
                if mode != "AccessShareLock":
                    locked.add(relation)
                if mode not in ("AccessShareLock", "RowShareLock"):
                    written.add(relation)
                if mode not in ("AccessShareLock", "RowShareLock", "RowExclusiveLock"):
                    whole.add(relation)
        return Touched(frozenset(read), frozenset(locked), frozenset(written), frozenset(whole), frozenset(drawn))
