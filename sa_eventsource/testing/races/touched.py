"""What a step touches, and whether two steps of different actors give the same in either order.

PostgreSQL is asked which tables a transaction has locked in which mode: that includes what triggers, foreign keys, functions
and views touch, which no look at the statement would show. Which of these a single statement has touched, ``catalog`` says; where
it is not certain, all of them, so that more steps are held to depend on each other than do. Rows come in by another way: two
statements that both lock rows of a table, in transactions that are open at the same time, and neither waits, have locked different
rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sa_eventsource.testing.races.race_steps import Happening

NOTHING: frozenset[int] = frozenset()

_DOES_NOT_WAIT = re.compile(r"skip\s+locked|nowait|pg_try_advisory|lock_timeout", re.IGNORECASE)
_LOOKS_AT_TRANSACTIONS = re.compile(r"pg_(?:current_)?(?:snapshot|xact)|txid_|pg_locks|pg_stat", re.IGNORECASE)
_UNLOCKS = re.compile(r"rollback\s+to|pg_advisory_unlock", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Touched:
    """Relations, by their numbers in the catalog, and how.

    Attributes:
        read: Tables that were read, or whose rows were locked or written.
        locked: Tables that had rows locked or written; and advisory locks, as negative numbers.
        written: Tables that had rows written.
        held_whole: Tables locked as a whole, as by ``LOCK TABLE`` or DDL.
        drawn: Sequences that numbers were drawn from.
    """

    read: frozenset[int] = NOTHING
    locked: frozenset[int] = NOTHING
    written: frozenset[int] = NOTHING
    held_whole: frozenset[int] = NOTHING
    drawn: frozenset[int] = NOTHING

    def __or__(self, other: Touched) -> Touched:
        """Give what both touch together."""
        return Touched(
            self.read | other.read,
            self.locked | other.locked,
            self.written | other.written,
            self.held_whole | other.held_whole,
            self.drawn | other.drawn,
        )


@dataclass(slots=True, eq=False)
class Transaction:
    """A transaction of one actor on one connection.

    Attributes:
        keeps_snapshot: Whether all of its statements see one state of the database (REPEATABLE READ and above).
        is_serializable: Whether PostgreSQL also watches what it reads.
        is_autocommit: Whether it is a single statement, in the driver's autocommit mode.
        is_unseen: Whether all of its statements went to the driver itself, so that nobody knows what it has touched.
        touched: What it has touched so far, or altogether when it is over.
    """

    keeps_snapshot: bool = False
    is_serializable: bool = False
    is_autocommit: bool = False
    has_snapshot: bool = False
    is_unseen: bool = False
    touched: Touched = field(default_factory=Touched)

    def set_isolation(self, level: str) -> None:
        """Take over what PostgreSQL calls its isolation level."""
        self.is_serializable = level == "serializable"
        self.keeps_snapshot = self.is_serializable or level == "repeatable read"


def depend(first: Happening, second: Happening, *, has_deferred_checks: bool) -> bool:
    """Check whether two steps of different actors may give something else in the other order.

    Args:
        first: The one that came first.
        second: The other one.
        has_deferred_checks: Whether there are constraints or triggers in the database that act at a commit.
    """
    if first.is_opaque or second.is_opaque:
        return True
    a, b = first.transaction, second.transaction
    if a.is_serializable and b.is_serializable and _write_what_the_other_touches(a.touched, b.touched):
        return True
    if first.is_end and second.is_end:
        return has_deferred_checks and bool(a.touched.written & b.touched.written)
    if first.is_end:
        return _end_matters(first, second)
    if second.is_end:
        return _end_matters(second, first)
    return _statements_depend(first, second)


def _write_what_the_other_touches(a: Touched, b: Touched) -> bool:
    return bool(a.written & b.read or b.written & a.read)


def _end_matters(end: Happening, statement: Happening) -> bool:
    """Check whether a statement sees by what it reads, or by how long it waits, that a transaction has ended."""
    ended, own = end.transaction.touched, statement.touched
    if ended.locked & own.locked or ended.held_whole & own.read or ended.read & own.held_whole:
        return True
    if end.kind.value != "commit":
        return False
    if _LOOKS_AT_TRANSACTIONS.search(statement.text):
        return bool(ended.written)
    seen = statement.transaction.touched.read if statement.takes_snapshot else own.read
    return bool(ended.written & seen)


def _statements_depend(first: Happening, second: Happening) -> bool:
    a, b = first.touched, second.touched
    if a.drawn & b.drawn:
        return True
    for one, other in ((first, second), (second, first)):
        if _LOOKS_AT_TRANSACTIONS.search(one.text) and other.touched.written:
            return True
        if _UNLOCKS.search(one.text) and one.touched.locked & other.touched.locked:
            return True
    may_meet = bool(a.locked & b.locked or a.held_whole & b.read or b.held_whole & a.read)
    if not may_meet:
        return False
    has_waited = second.actor in first.waited_for or first.actor in second.waited_for
    return has_waited or any(_DOES_NOT_WAIT.search(each.text) for each in (first, second))
