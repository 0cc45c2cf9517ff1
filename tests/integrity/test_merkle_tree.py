"""Trees and proofs as RFC 9162 has them: its predecessor's test vectors, and a tree that is built by the definition."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sa_eventsource.integrity.merkle_tree import (
    EMPTY_ROOT,
    GrowingTree,
    consistency_path,
    inclusion_path,
    is_consistent,
    leaf_hash,
    peaks_of,
    root_from_inclusion,
)

# Of Certificate Transparency's reference implementation, for RFC 6962.
INPUTS = [
    bytes.fromhex(each)
    for each in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves: list[bytes]) -> bytes:
    """The definition of RFC 9162, 2.1.1."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    cut = 1
    while cut * 2 < len(leaves):
        cut *= 2
    return sha256(b"\x01" + naive_root(leaves[:cut]) + naive_root(leaves[cut:])).digest()


def subtree_of(leaves: list[bytes]) -> Callable[[int, int], bytes]:
    return lambda level, number: naive_root(leaves[number << level : (number + 1) << level])


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(size)]


def grown(leaves: list[bytes]) -> GrowingTree:
    tree = GrowingTree()
    for each in leaves:
        tree.append(each)
    return tree


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert GrowingTree().root == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(1, 9))
def test_the_reference_vectors_hold(size: int) -> None:
    assert grown([leaf_hash(each) for each in INPUTS[:size]]).root.hex() == ROOTS[size - 1]


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [
        (0, 1, []),
        (
            0,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    ],
)
def test_the_reference_inclusion_paths_hold(index: int, size: int, path: list[str]) -> None:
    leaves = [leaf_hash(each) for each in INPUTS]
    assert [each.hex() for each in inclusion_path(subtree_of(leaves), index, size)] == path


@pytest.mark.parametrize(
    ("former", "size", "path"),
    [
        (1, 1, []),
        (
            1,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            [
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ],
)
def test_the_reference_consistency_paths_hold(former: int, size: int, path: list[str]) -> None:
    leaves = [leaf_hash(each) for each in INPUTS]
    assert [each.hex() for each in consistency_path(subtree_of(leaves), former, size)] == path


def test_each_small_tree_proves_each_leaf_and_each_beginning() -> None:
    leaves = leaves_of(33)
    for size in range(34):
        root = naive_root(leaves[:size])
        tree = grown(leaves[:size])
        assert tree.root == root
        assert tree.peaks == [subtree_of(leaves)(*each) for each in peaks_of(size)]
        for index in range(size):
            assert root_from_inclusion(leaves[index], index, size, inclusion_path(subtree_of(leaves), index, size)) == root
        for former in range(size + 1):
            path = consistency_path(subtree_of(leaves), former, size)
            assert is_consistent(former, size, naive_root(leaves[:former]), root, path)


def test_a_leaf_completes_the_subtrees_that_end_with_it() -> None:
    leaves, tree = leaves_of(24), GrowingTree()
    for number, each in enumerate(leaves, 1):
        completed = tree.append(each)
        ending = [level for level in range(1, 6) if number % (1 << level) == 0]
        assert completed == [subtree_of(leaves)(level, (number >> level) - 1) for level in ending]


@given(size=st.integers(1, 300), data=st.data())
def test_an_inclusion_proof_holds_for_its_leaf_in_its_place_alone(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    index, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    path, root = inclusion_path(subtree_of(leaves), index, size), naive_root(leaves)
    assert root_from_inclusion(leaves[index], index, size, path) == root
    assume(other != index)
    assert root_from_inclusion(leaves[other], index, size, path) != root
    try:
        elsewhere = root_from_inclusion(leaves[index], other, size, path)
    except ValueError:
        pass  # there, a path has another length
    else:
        assert elsewhere != root
    for wrong in (path[:-1], [*path, leaves[0]]):
        with pytest.raises(ValueError, match="the path is too"):
            root_from_inclusion(leaves[index], index, size, wrong)


@given(size=st.integers(2, 300), data=st.data())
def test_a_consistency_proof_does_not_hold_for_a_tree_that_was_altered(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    former = data.draw(st.integers(1, size))
    path, root, former_root = consistency_path(subtree_of(leaves), former, size), naive_root(leaves), naive_root(leaves[:former])
    assert is_consistent(former, size, former_root, root, path)
    altered = list(leaves)
    altered[data.draw(st.integers(0, former - 1))] = leaf_hash(b"another")
    other_path = consistency_path(subtree_of(altered), former, size)
    assert not is_consistent(former, size, former_root, naive_root(altered), other_path)
    assert not is_consistent(former, size, former_root, naive_root(altered), path)
    assert not is_consistent(former, size, naive_root(altered[:former]), root, path)
    if path:
        assert not is_consistent(former, size, former_root, root, path[:-1])
        assert not is_consistent(former, size, former_root, root, [*path, leaves[0]])
        spot = data.draw(st.integers(0, len(path) - 1))
        wrong = [*path[:spot], leaf_hash(b"another"), *path[spot + 1 :]]
        assert not is_consistent(former, size, former_root, root, wrong)


@pytest.mark.parametrize("former", [-1, 5])
def test_no_tree_has_fewer_leaves_than_its_beginning(former: int) -> None:
    assert not is_consistent(former, 4, EMPTY_ROOT, naive_root(leaves_of(4)), [])


def test_no_leaf_lies_outside_of_the_tree() -> None:
    with pytest.raises(ValueError, match="a tree of 2 has no leaf 2"):
        root_from_inclusion(leaf_hash(b""), 2, 2, [])
