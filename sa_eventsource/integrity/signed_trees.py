"""What a worker makes sure of before it adds to a tree: that it is the tree that was signed.

Whoever can write to the tables has the worker sign what they like, unless it looks: they alter an event, cut the tree back, and
wait. So a process remembers the newest head that it has added to each tree, and the signature under the newest stored one says that
somebody with the key made it. A worker that has just started can tell no tree that was cut back to an earlier signed head, or
emptied, from one that has grown no further. Heads that are kept elsewhere can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import func, select

from sa_eventsource.checkpoints import cluster_identifier
from sa_eventsource.counting import counted
from sa_eventsource.exceptions import AlteredTreeError, ProofError
from sa_eventsource.integrity.stored_tree import StoredTree
from sa_eventsource.mapping import regclass_name
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Dialect, Table

    from sa_eventsource.integrity.proofs_of_base import ProofsOfBase
    from sa_eventsource.integrity.tree_heads import Head


@dataclass(slots=True)
class SeenTree:
    """What this process remembers of a tree.

    Attributes:
        head: The newest head that it has added to the tree; None where it has added none yet.
    """

    head: Head | None = None

    def see(self, head: Head) -> None:
        """Remember a head whose transaction was committed, unless another thread has seen a newer one."""
        if self.head is None or self.head.tree_size < head.tree_size:
            self.head = head


_SEEN: WeakKeyDictionary[Dialect, dict[tuple[str, ...], SeenTree]] = WeakKeyDictionary()
"""By the engine, which its dialect stands for, and within it by server, database and table: one engine may connect to several."""


def seen_tree(connection: Connection, table: Table) -> SeenTree:
    """Get what this process remembers of the tree in a table."""
    where: tuple[str, ...] = ()
    if database_of(connection.dialect).is_server:
        where = tuple(connection.execute(select(cluster_identifier(), func.current_database())).one())
    return _SEEN.setdefault(connection.dialect, {}).setdefault((*where, regclass_name(connection, table)), SeenTree())


def check_stored_tree(connection: Connection, proofs: ProofsOfBase, seen: Head | None) -> None:
    """Make sure that the stored tree is the one that was signed, as far as that can be told from here.

    Args:
        connection: In a transaction that keeps others from adding to the tree.
        proofs: The tables, and the key whose public ones are asked.
        seen: The newest head that this process has added to the tree.

    Raises:
        AlteredTreeError: It is another one.
        SigningKeyError: There is no key.
    """
    stored = StoredTree(connection, proofs.merkle_tree)
    newest = stored.newest_head()
    if seen is not None:
        _check_goes_on(stored, newest, seen)
    if newest is not None and newest != seen and proofs.signing_key is not None:
        _check_signed(connection, proofs, newest, seen)


def _check_goes_on(stored: StoredTree, newest: Head | None, seen: Head) -> None:
    size = 0 if newest is None else newest.tree_size
    if newest is None or size < seen.tree_size:
        raise _altered("the stored tree", f"it has {size}, and this process has seen {seen.name}: it was cut off", size, seen)
    if newest == seen:
        return  # whoever adds to it works its root out
    if stored.head_of_size(seen.tree_size) != seen:
        raise _altered("the stored tree", f"it has another {seen.name.removeprefix('the ')} than this process has seen", size, seen)
    try:
        root = stored.growing(seen.tree_size).root
    except LookupError as error:
        raise _altered("the stored tree", f"it is damaged: {error}", size, seen) from error
    if root != seen.root:
        raise _altered("the stored tree", f"its leaves do not lead to the root of {seen.name}", size, seen)


def _check_signed(connection: Connection, proofs: ProofsOfBase, newest: Head, seen: Head | None) -> None:
    """Check who signed the newest head, and that none behind a signed one is without a signature.

    The signatures under earlier heads say nothing more: the newest root covers their leaves.
    """
    table, size = proofs.merkle_tree, newest.tree_size
    begins = select(func.min(table.c.tree_size)).where(table.c.signature.is_not(None)).scalar_subquery()
    unsigned = select(func.max(table.c.tree_size)).where(table.c.signature.is_(None), table.c.tree_size > begins)
    if newest.signature is None or seen is None:
        without = connection.scalar(unsigned)
        if without == size:
            raise _altered(newest.name, "it is not signed, and heads before it are", size, seen)
        if without is not None:
            raise _altered(
                "the stored tree", f"the head of {counted(without, 'event')} is not signed, and others before it are", size, seen
            )
    keys = known_public_keys(proofs.signing_key)
    if newest.signature is None or keys is None:
        return
    try:
        newest.check_signature(keys)
    except ProofError as error:
        advice = "Where the signing key was changed, keep the former key after the new one until a head is signed with that"
        raise _altered(newest.name, f"{error.reason}. {advice}", size, seen) from error


def known_public_keys(signing_key: object) -> Mapping[str, bytes] | None:
    """Get the public keys that belong to a signing key; None where it does not say.

    Raises:
        SigningKeyError: There is no key.
    """
    ask: Any = getattr(signing_key, "public_keys", None)
    found: Mapping[str, bytes] | None = None if ask is None else ask()
    return found


def _altered(what: str, reason: str, size: int, seen: Head | None) -> AlteredTreeError:
    return AlteredTreeError(what, reason, tree_size=size, seen_size=None if seen is None else seen.tree_size)
