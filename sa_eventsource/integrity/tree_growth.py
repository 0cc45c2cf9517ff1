"""Putting events into the tree, behind the log: the append knows nothing of it.

They go in by position, so that the tree's order is the log's. A position is drawn before its transaction commits: those below the
newest that is visible may yet be missing. Whoever will commit one holds a lock on the log since it was drawn. So the events up to
that position are complete as soon as all have ended who held the lock when it was seen, and only these writers are waited for.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select

from sa_eventsource.exceptions import ProofError
from sa_eventsource.integrity.leaves import NO_POSITIONS, hash_of_event, packed, with_position
from sa_eventsource.integrity.proofs_of_base import proofs_of_base
from sa_eventsource.integrity.signed_trees import check_stored_tree, seen_tree
from sa_eventsource.integrity.stored_tree import StoredTree, stored_nodes
from sa_eventsource.integrity.tree_heads import Head, signed
from sa_eventsource.mapping import check_async_session, check_session, present_session
from sa_eventsource.store import database_of, require_own_transaction, roll_back, select_raw_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    from sa_eventsource.integrity.merkle_tree import GrowingTree
    from sa_eventsource.integrity.proofs_of_base import ProofsOfBase

BATCH = 2048
"""Events that one transaction puts into the tree, at most."""

_LOCK_WAIT = 10.0
_LONGEST_IDLE = 60.0
"""Seconds: for another worker that is at it, and for one that is frozen while it holds the tree."""

_LOOK_AGAIN = 0.05
_LONGEST_PATIENCE = 30.0


@dataclass(slots=True)
class TreeGrowth:
    """Puts events into the tree, batch by batch; any number of workers may.

    Attributes:
        proofs: The tables.
        is_waiting: Whether the last :meth:`grow` left events whose turn comes when writers have ended.
    """

    proofs: ProofsOfBase
    is_waiting: bool = field(default=False, init=False)
    _complete_to: int = field(default=0, init=False)
    _awaited: tuple[int, frozenset[str]] | None = field(default=None, init=False)

    def grow(self, session: Session) -> int:
        """Put the next events into the tree, and commit.

        Args:
            session: A session without a transaction in progress. It has none afterwards.

        Returns:
            How many; 0 if there are none, or only such as may still have others before them.

        Raises:
            AlteredTreeError: The stored tree is not the one that was signed.
            JoinedTransactionError: The session's bind is in a transaction.
            ProofError: The stored tree is damaged.
            SigningKeyError: There is no key to sign with.
        """
        try:
            if not self._look(self._begin(session)):
                return 0
            session.rollback()  # what the next transaction reads comes behind its lock
            connection = self._begin(session)
            database_of(connection.dialect).limit_waits(connection, for_locks=_LOCK_WAIT, idle=_LONGEST_IDLE)
            lock_tree(connection, self.proofs)
            seen = seen_tree(connection, self.proofs.merkle_tree)
            check_stored_tree(connection, self.proofs, seen.head)
            events = self._next(connection)
            head = self._add(connection, events) if events else None
            session.commit()
            if head is not None:
                seen.see(head)
        finally:
            roll_back(session)
        return len(events)

    def _begin(self, session: Session) -> Connection:
        bind_arguments = self.proofs.tables.bind_arguments
        require_own_transaction(session, bind_arguments)
        options = database_of(session.get_bind(**bind_arguments).dialect).statement_by_statement
        return session.connection(bind_arguments=bind_arguments, execution_options=options)

    def _look(self, connection: Connection) -> bool:
        """Look whether events are complete that are not in the tree yet."""
        newest = connection.scalar(select(func.max(self.proofs.tables.events.c.position))) or 0
        done = StoredTree(connection, self.proofs.merkle_tree).last_position()
        if newest > done >= self._complete_to:
            self._look_for_writers(connection, newest)
        self.is_waiting = newest > done >= self._complete_to
        return newest > done and not self.is_waiting

    def _look_for_writers(self, connection: Connection, newest: int) -> None:
        database = database_of(connection.dialect)
        writers = [] if database.has_one_writer else database.open_writers(connection, self.proofs.tables.events)
        keys = frozenset(each.key for each in writers)
        if not keys:
            self._complete_to, self._awaited = newest, None
        elif self._awaited is None:
            self._awaited = newest, keys
        elif not self._awaited[1] & keys:
            self._complete_to, self._awaited = self._awaited[0], (newest, keys)

    def _next(self, connection: Connection) -> Sequence[Row[Any]]:
        events = self.proofs.tables.events
        position = events.c.position
        done = StoredTree(connection, self.proofs.merkle_tree).last_position()  # others may have been faster
        new = select_raw_events(events).where(position > done, position <= self._complete_to)
        return connection.execute(new.order_by(position).limit(BATCH)).all()

    def _add(self, connection: Connection, events: Sequence[Row[Any]]) -> Head:
        tree, positions_hash = _present_tree(connection, self.proofs)
        leaves, nodes = [hash_of_event(connection, each) for each in events], []
        for each, leaf in zip(events, leaves, strict=True):
            nodes.append(stored_nodes(tree.append(leaf)))
            positions_hash = with_position(positions_hash, each.position)
        made = Head(tree_size=tree.size, root=tree.root, positions_hash=positions_hash, made_at=datetime.now(UTC))
        key_id, signature = signed(made.text, self.proofs.signing_key)
        head = replace(made, key_id=key_id, signature=signature)
        connection.execute(
            insert(self.proofs.merkle_tree).values(
                tree_size=head.tree_size,
                first_position=events[0].position,
                last_position=events[-1].position,
                positions=packed([each.position for each in events]),
                leaf_hashes=b"".join(leaves),
                node_hashes=b"".join(nodes),
                root=head.root,
                positions_hash=head.positions_hash,
                made_at=head.made_at,
                key_id=head.key_id,
                signature=head.signature,
            )
        )
        return head


def lock_tree(connection: Connection, proofs: ProofsOfBase) -> None:
    """Keep others from adding to the tree until the transaction ends; wait for one who does."""
    database = database_of(connection.dialect)
    database.become_writer(connection, proofs.merkle_tree)
    database.lock_stream(connection, proofs.merkle_tree, "merkle_tree", "")


def _present_tree(connection: Connection, proofs: ProofsOfBase) -> tuple[GrowingTree, bytes]:
    stored = StoredTree(connection, proofs.merkle_tree)
    newest = stored.newest_head()
    if newest is None:
        return stored.growing(0), NO_POSITIONS
    try:
        tree = stored.growing(newest.tree_size)
    except LookupError as error:
        raise ProofError(newest.name, f"the stored tree is damaged: {error}. Run sa-eventsource verify --proofs") from error
    if tree.root != newest.root:
        raise ProofError(newest.name, "the stored tree has another root. Run sa-eventsource verify --proofs")
    return tree, newest.positions_hash


def grow_tree(session: Session | scoped_session[Session], *, base: Any = None) -> int:
    """Put all events into the tree that are not in it yet, as workers do, in transactions of its own.

    Waits for transactions that are writing events, for half a minute at most: what they write comes before what is there already.

    Args:
        session: A session without a transaction in progress. It has none afterwards.
        base: The declarative base of the log; None for the only one that has proofs.

    Returns:
        How many events were put into the tree.

    Raises:
        AlteredTreeError: The stored tree is not the one that was signed.
        DeclarationError: The base has no proofs, or none is given and several have.
        JoinedTransactionError: The session is in a transaction.
        ProofError: The stored tree is damaged.
        SigningKeyError: There is no key to sign with.
    """
    check_session("grow_tree()", session, instead="async_grow_tree")
    return grow_fully(TreeGrowth(proofs_of_base("grow_tree", base)), present_session(session))


async def async_grow_tree(session: AsyncSession, *, base: Any = None) -> int:
    """Put all events into the tree that are not in it yet. As :func:`grow_tree`."""
    check_async_session("async_grow_tree()", session, instead="grow_tree")
    growth = TreeGrowth(proofs_of_base("async_grow_tree", base))
    total, end = 0, time.monotonic() + _LONGEST_PATIENCE
    while (taken := await session.run_sync(growth.grow)) or (growth.is_waiting and time.monotonic() < end):
        total += taken
        if not taken:
            await asyncio.sleep(_LOOK_AGAIN)
    return total


def grow_fully(growth: TreeGrowth, session: Session) -> int:
    """Put all that is there into the tree, and wait for writers for half a minute at most; return how many events it were."""
    total, end = 0, time.monotonic() + _LONGEST_PATIENCE
    while (taken := growth.grow(session)) or (growth.is_waiting and time.monotonic() < end):
        total += taken
        if not taken:
            time.sleep(_LOOK_AGAIN)
    return total
