"""The tree as it is stored: a row for each batch of leaves, which holds the hashes of the subtrees that the batch completes.

Of subtrees, those of 256 leaves and more are stored; what lies below is worked out from 256 leaves at most. So a proof reads some
twenty rows, however long the log is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from sa_eventsource.integrity.leaves import hashes_in, unpacked
from sa_eventsource.integrity.merkle_tree import HASH_BYTES, GrowingTree, peaks_of
from sa_eventsource.integrity.tree_heads import Head

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, Table

STORED_LEVEL = 8
"""The level of the smallest subtrees whose hashes are stored."""

_TILE = 1 << STORED_LEVEL


def stored_nodes(completed: list[bytes]) -> bytes:
    """Choose, of the subtrees that a leaf completes, from level 1 up, those that are stored."""
    return b"".join(completed[STORED_LEVEL - 1 :])


def head_of(row: Row[Any]) -> Head:
    """Take the head from a row of the tree's table."""
    return Head(
        tree_size=row.tree_size,
        root=row.root,
        positions_hash=row.positions_hash,
        made_at=row.made_at,
        key_id=row.key_id,
        signature=row.signature,
    )


@dataclass(frozen=True, slots=True)
class _Batch:
    """A row, as far as nodes are looked up in it."""

    tree_size: int
    leaf_bytes: int
    node_hashes: bytes

    @property
    def begin(self) -> int:
        return self.tree_size - self.leaf_bytes // HASH_BYTES


class StoredTree:
    """Reads hashes from the tree's table, each row once at most."""

    def __init__(self, connection: Connection, table: Table) -> None:
        """Take a connection in a transaction."""
        self._connection, self._table = connection, table
        self._tiles: dict[int, list[bytes]] = {}
        self._batches: dict[int, _Batch] = {}

    def newest_head(self) -> Head | None:
        """Read the newest head; None while there is none."""
        table = self._table
        row = self._connection.execute(_of_heads(table).order_by(table.c.tree_size.desc()).limit(1)).one_or_none()
        return None if row is None else head_of(row)

    def head_of_size(self, size: int) -> Head | None:
        """Read the head of so many events; None if there is none."""
        row = self._connection.execute(_of_heads(self._table).where(self._table.c.tree_size == size)).one_or_none()
        return None if row is None else head_of(row)

    def last_position(self) -> int:
        """Read up to which position events are in the tree; 0 where none is."""
        table = self._table
        newest = select(table.c.last_position).order_by(table.c.tree_size.desc()).limit(1)
        return self._connection.scalar(newest) or 0

    def index_of(self, position: int) -> int | None:
        """Find the leaf of the event at a position; None if it is not in the tree."""
        table = self._table
        first_behind = select(table.c.tree_size, table.c.positions).where(table.c.last_position >= position)
        row = self._connection.execute(first_behind.order_by(table.c.last_position).limit(1)).one_or_none()
        positions = [] if row is None else unpacked(row.positions)
        if row is None or position not in positions:
            return None
        return int(row.tree_size) - len(positions) + positions.index(position)

    def growing(self, size: int) -> GrowingTree:
        """Get what further leaves are added to."""
        return GrowingTree(size, [self.subtree(*each) for each in peaks_of(size)])

    def subtree(self, level: int, number: int) -> bytes:
        """Get the hash of a complete subtree.

        Raises:
            LookupError: Rows are missing, or hold less than they should.
        """
        if level >= STORED_LEVEL:
            return self._stored(level, number)
        begin = number << level
        tile = begin // _TILE
        if tile not in self._tiles:
            self._tiles[tile] = self._read_tile(tile)
        hashes = self._tiles[tile][begin % _TILE : begin % _TILE + (1 << level)]
        if len(hashes) < 1 << level:
            raise LookupError(f"leaf {begin + len(hashes)} is missing")
        growing = GrowingTree()
        for each in hashes:
            growing.append(each)
        return growing.root

    def _stored(self, level: int, number: int) -> bytes:
        end = (number + 1) << level
        batch = self._batches.get(end)
        if batch is None:
            table = self._table
            columns = table.c.tree_size, func.length(table.c.leaf_hashes), table.c.node_hashes
            found = select(*columns).where(table.c.tree_size >= end).order_by(table.c.tree_size).limit(1)
            row = self._connection.execute(found).one_or_none()
            if row is None:
                raise LookupError(f"leaf {end - 1} is missing")
            batch = self._batches[end] = _Batch(*row)
        place = sum(_stored_levels(each) for each in range(_next_tile(batch.begin), end, _TILE)) + level - STORED_LEVEL
        found_hash = batch.node_hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES]
        if len(found_hash) < HASH_BYTES:
            raise LookupError(f"the hash of subtree {level}/{number} is missing")
        return found_hash

    def _read_tile(self, tile: int) -> list[bytes]:
        """Read the leaves of a subtree of 256, as far as they are there."""
        begin, end, table = tile * _TILE, (tile + 1) * _TILE, self._table
        last = select(func.min(table.c.tree_size)).where(table.c.tree_size >= end).scalar_subquery()
        within = select(table.c.tree_size, table.c.leaf_hashes).where(
            table.c.tree_size > begin, table.c.tree_size <= func.coalesce(last, end)
        )
        found: list[bytes] = []
        for row in self._connection.execute(within.order_by(table.c.tree_size)):
            hashes = hashes_in(row.leaf_hashes)
            first = row.tree_size - len(hashes)
            if first > begin + len(found):
                break  # a row is missing
            found += hashes[begin + len(found) - first :]
        return found[:_TILE]


def _of_heads(table: Table) -> Any:
    return select(*(each for each in table.c if each.name not in ("positions", "leaf_hashes", "node_hashes")))


def _next_tile(begin: int) -> int:
    """The first number of leaves above *begin* that completes a subtree of 256."""
    return (begin // _TILE + 1) * _TILE


def _stored_levels(size: int) -> int:
    """How many subtrees that are stored end with leaf number *size*, counted from 1."""
    return (size & -size).bit_length() - STORED_LEVEL
