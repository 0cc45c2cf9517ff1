"""Comparing a log with its tree, and the tree with heads that were kept elsewhere: what was altered, removed or slipped in?

Log and tree are read once, side by side, by position. What holds is worked out from the events; the stored hashes serve to say
which event it is. The stored tree is no witness: who can write to the log may be able to write to it too. A head that was kept
elsewhere is.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from sa_eventsource.counting import counted
from sa_eventsource.exceptions import ProofError
from sa_eventsource.integrity.leaves import NO_POSITIONS, hash_of_event, hashes_in, packed, unpacked, with_position
from sa_eventsource.integrity.merkle_tree import GrowingTree
from sa_eventsource.integrity.rewritten_events import RewrittenEvents
from sa_eventsource.integrity.stored_tree import head_of, stored_nodes
from sa_eventsource.store import select_raw_events, whole_log

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Row

    from sa_eventsource.integrity.proofs_of_base import ProofsOfBase
    from sa_eventsource.integrity.tree_heads import Head

_AT_A_TIME = 1000
_BATCHES_AT_A_TIME = 10

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Something that does not fit.

    Attributes:
        subject: What it is about.
        message: What is wrong.
        is_warning: Whether all may be well nevertheless.
    """

    subject: str
    message: str
    is_warning: bool = False


@dataclass(slots=True)
class TreeComparison:
    """Compares a log with its tree and with heads, in a transaction that sees one state of the database.

    Attributes:
        proofs: The tables.
        heads: Heads that were kept elsewhere.
        public_keys: Who may have signed them, and the newest head in the database; None if nobody looks at signatures.
        is_moved: Whether the log was exported and imported since the heads were made, so that it has other positions.
        covered: How many events were found that are in the tree.
        uncovered: How many events come after its end.
    """

    proofs: ProofsOfBase
    heads: Sequence[Head] = ()
    public_keys: Mapping[str, bytes] | None = None
    is_moved: bool = False
    covered: int = field(default=0, init=False)
    uncovered: int = field(default=0, init=False)
    _tree: GrowingTree = field(default_factory=GrowingTree, init=False)
    _positions_hash: bytes = field(default=NO_POSITIONS, init=False)
    _last_position: int = field(default=0, init=False)
    _newest: Head | None = field(default=None, init=False)
    _is_newest_checked: bool = field(default=False, init=False)
    _due: list[Head] = field(default_factory=list, init=False)

    def discrepancies(self, connection: Connection, progress: Callable[[int], None]) -> Generator[Discrepancy, None, None]:
        """Find what does not fit, in the order of positions.

        Args:
            connection: In a transaction that sees one state of the database.
            progress: Called with the number of events that have been looked at.
        """
        self._due = sorted(self.heads, key=lambda each: each.tree_size)
        for each in self.heads:
            yield from self._signed(each)
        yield from self._reached()
        rewritten = RewrittenEvents.read(connection, self.proofs, self.public_keys)
        with ExitStack() as results:
            yield from self._merge(
                connection, self._leaves(connection, results), self._events(connection, results, progress), rewritten
            )
        yield from self._without_position(connection)
        for each in self._due:
            yield Discrepancy(
                each.name,
                f"the tree has {counted(self._tree.size, 'event')}: events were cut off, or the head is of another log",
            )
        if self._newest is not None and not self._is_newest_checked:
            yield from self._signed(self._newest)
        if rewritten.accepted:
            yield self._on_record(rewritten)
        if not self.heads:
            yield Discrepancy(
                self.proofs.merkle_tree.name,
                "no head was given that was kept elsewhere: whoever can write to log and tree could have replaced both",
                is_warning=True,
            )

    def _merge(
        self,
        connection: Connection,
        leaves: Iterator[tuple[int, bytes] | Discrepancy],
        events: Iterator[Row[Any]],
        rewritten: RewrittenEvents,
    ) -> Iterator[Discrepancy]:
        event = next(events, None)
        for leaf in leaves:
            if isinstance(leaf, Discrepancy):
                yield leaf
                continue
            position, recorded = leaf
            while event is not None and event.position < position:
                yield _slipped_in(event)
                event = next(events, None)
            if event is None or event.position > position:
                yield Discrepancy(f"position {position}", "an event that was here is missing")
                continue
            self.covered += 1
            present = hash_of_event(connection, event)
            fault = rewritten.fault(event.event_id, recorded, present)
            if fault is not None:
                yield Discrepancy(_name(event), fault)
            event = next(events, None)
        while event is not None:
            if event.position <= self._last_position:
                yield _slipped_in(event)
            else:
                self.uncovered += 1
            event = next(events, None)

    def _leaves(self, connection: Connection, results: ExitStack) -> Iterator[tuple[int, bytes] | Discrepancy]:
        """Give the leaves that are stored, and what is wrong with how they are."""
        table = self.proofs.merkle_tree
        statement = select(table).order_by(table.c.tree_size)
        rows = results.enter_context(connection.execute(statement, execution_options={"yield_per": _BATCHES_AT_A_TIME}))
        are_signed = False
        for row in rows:
            positions, hashes, nodes = unpacked(row.positions), hashes_in(row.leaf_hashes), []
            head = head_of(row)
            if self._tree.size + len(hashes) != row.tree_size or len(positions) != len(hashes):
                yield Discrepancy(head.name, "rows of the tree are missing before it, or were altered")
            for position, leaf in zip(positions, hashes, strict=False):
                if position <= self._last_position:
                    yield Discrepancy(head.name, f"position {position} is in the tree behind position {self._last_position}")
                    continue
                self._last_position = position
                nodes.append(stored_nodes(self._tree.append(leaf)))
                self._positions_hash = with_position(self._positions_hash, position)
                yield from self._reached()
                yield position, leaf
            stored = (head.root, head.positions_hash, row.positions, row.leaf_hashes, row.node_hashes)
            made = (self._tree.root, self._positions_hash, packed(positions), b"".join(hashes), b"".join(nodes))
            if stored != made or [row.first_position, row.last_position] != [*positions[:1], *positions[-1:]]:
                yield Discrepancy(head.name, "its row was altered: it does not fit the leaves up to it")
            if head.signature is not None or are_signed:
                yield from self._signed(head)
            are_signed = are_signed or head.signature is not None
            self._newest = head
        self._is_newest_checked = are_signed

    def _events(self, connection: Connection, results: ExitStack, progress: Callable[[int], None]) -> Iterator[Row[Any]]:
        events = whole_log(self.proofs.tables)
        statement = select_raw_events(events).where(events.c.position.is_not(None)).order_by(events.c.position)
        rows = results.enter_context(connection.execute(statement, execution_options={"yield_per": _AT_A_TIME}))
        for number, row in enumerate(rows, 1):
            yield row
            if number % _AT_A_TIME == 0:
                progress(number)

    def _without_position(self, connection: Connection) -> Iterator[Discrepancy]:
        """Find events that stand nowhere in the log: nothing that reads by position gets them, this comparison neither."""
        events = whole_log(self.proofs.tables)
        for event_id in connection.scalars(select(events.c.event_id).where(events.c.position.is_(None))):
            yield Discrepancy(f"event {event_id}", "it has no position: no tree covers it, and nobody who follows the log gets it")

    def _reached(self) -> Iterator[Discrepancy]:
        """Compare the heads of so many leaves as there are now."""
        while self._due and self._due[0].tree_size == self._tree.size:
            head = self._due.pop(0)
            if head.root != self._tree.root:
                yield Discrepancy(head.name, "the log up to there is another one: it was altered together with the tree")
            elif head.positions_hash != self._positions_hash and not self.is_moved:
                yield Discrepancy(
                    head.name,
                    "the events up to there are the same, at other positions: these were altered. If the log was exported and "
                    "imported since, say so (--moved)",
                )

    def _signed(self, head: Head) -> Iterator[Discrepancy]:
        if self.public_keys is not None:
            try:
                head.check_signature(self.public_keys)
            except ProofError as error:
                yield Discrepancy(head.name, error.reason)

    def _on_record(self, rewritten: RewrittenEvents) -> Discrepancy:
        number = len(rewritten.accepted)
        shown = ", ".join(map(str, rewritten.accepted[:_SHOWN]))
        signature = "" if rewritten.are_signed else "; nothing signed says so: whoever can write to the table could have done it"
        return Discrepancy(
            self.proofs.rewritten_events.name,
            f"{counted(number, 'event')} rewritten on purpose, on record: {shown}{', ...' if number > _SHOWN else ''}{signature}",
            is_warning=True,
        )


def _slipped_in(event: Row[Any]) -> Discrepancy:
    return Discrepancy(_name(event), "it is not in the tree, and lies before its end: it was slipped in, or moved to this position")


def _name(event: Row[Any]) -> str:
    return f"event {event.event_id} at position {event.position}"
