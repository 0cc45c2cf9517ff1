"""Merkle trees as in RFC 9162: hashes, inclusion proofs and consistency proofs, with SHA-256.

Nothing here knows what a leaf is, or where hashes are kept. A subtree is named by its level and its number among those of that
level: the subtree ``(3, 5)`` has the eight leaves from number 40 on; ``(0, n)`` is leaf n itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Subtree: TypeAlias = "Callable[[int, int], bytes]"
"""Gives the hash of a complete subtree, by its level and number."""

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Hash what a leaf holds."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into the one that has both."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class GrowingTree:
    """What one must keep of a tree to add leaves to it, and to know its root.

    Attributes:
        size: How many leaves it has.
        peaks: The hashes of the largest complete subtrees that it is made of, from the left: one for each bit of its size.
    """

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    def append(self, leaf: bytes) -> list[bytes]:
        """Add a leaf, by its hash; return the hashes of the subtrees that it completes, from level 1 up."""
        node, completed, rest = leaf, [], self.size
        while rest & 1:
            node = node_hash(self.peaks.pop(), node)
            completed.append(node)
            rest >>= 1
        self.peaks.append(node)
        self.size += 1
        return completed

    @property
    def root(self) -> bytes:
        """The hash of the tree."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def peaks_of(size: int) -> Iterator[tuple[int, int]]:
    """List the largest complete subtrees of a tree of some size, from the left, each by level and number."""
    begin = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            yield level, begin >> level
            begin += 1 << level


def inclusion_path(subtree: Subtree, index: int, size: int) -> list[bytes]:
    """Build the proof that leaf *index* is in the tree of the first *size* leaves: the hashes alongside its way to the root."""
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _left(end - begin)
        if index < middle:
            path.append(_range_hash(subtree, middle, end))
            end = middle
        else:
            path.append(_range_hash(subtree, begin, middle))
            begin = middle
    return path[::-1]


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Work out the root of the tree of *size* leaves that a proof speaks of (RFC 9162, 2.1.3.2).

    Raises:
        ValueError: The proof has too many or too few hashes for such a place.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} has no leaf {index}")
    number, last, root = index, size - 1, leaf
    for each in path:
        if last == 0:
            raise ValueError("the path is too long")
        if number & 1 or number == last:
            root = node_hash(each, root)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            root = node_hash(root, each)
        number, last = number >> 1, last >> 1
    if last:
        raise ValueError("the path is too short")
    return root


def consistency_path(subtree: Subtree, former: int, size: int) -> list[bytes]:
    """Build the proof that the tree of the first *former* leaves is the beginning of that of *size* leaves (RFC 9162, 2.1.4.1)."""
    if former in (0, size):
        return []
    path: list[bytes] = []
    begin, end, is_former_root = 0, size, True
    while former != end:
        middle = begin + _left(end - begin)
        if former <= middle:
            path.append(_range_hash(subtree, middle, end))
            end = middle
        else:
            path.append(_range_hash(subtree, begin, middle))
            begin, is_former_root = middle, False
    if not is_former_root:
        path.append(_range_hash(subtree, begin, end))
    return path[::-1]


def is_consistent(former: int, size: int, former_root: bytes, root: bytes, path: Sequence[bytes]) -> bool:
    """Check a proof that a tree is the beginning of another (RFC 9162, 2.1.4.2)."""
    if not 0 <= former <= size:
        return False
    if former in (0, size):
        return not path and former_root == (root if former == size else EMPTY_ROOT)
    hashes = [former_root, *path] if former & (former - 1) == 0 else list(path)
    if not hashes:
        return False
    number, last = former - 1, size - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    of_former = of_size = hashes[0]
    for each in hashes[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            of_former, of_size = node_hash(each, of_former), node_hash(each, of_size)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            of_size = node_hash(of_size, each)
        number, last = number >> 1, last >> 1
    return last == 0 and of_former == former_root and of_size == root


def _left(size: int) -> int:
    """How many leaves the left side of a tree has: the largest power of two that is less than its size."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_hash(subtree: Subtree, begin: int, end: int) -> bytes:
    """Hash the leaves from *begin* up to *end*, which is not included, where both are cuts of a tree."""
    size = end - begin
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return subtree(level, begin >> level)
    middle = begin + _left(size)
    return node_hash(_range_hash(subtree, begin, middle), _range_hash(subtree, middle, end))
