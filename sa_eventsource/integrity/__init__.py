"""Proofs: a Merkle tree over the log, whose heads show that no event was altered, removed or slipped in."""

from sa_eventsource.integrity.signing_keys import (
    EnvironmentSigningKey,
    FileSigningKey,
    ServiceSigningKey,
    public_keys,
    written_public_keys,
)
from sa_eventsource.integrity.tree_growth import async_grow_tree, grow_tree
from sa_eventsource.integrity.tree_heads import Head

__all__ = [
    "EnvironmentSigningKey",
    "FileSigningKey",
    "Head",
    "ServiceSigningKey",
    "async_grow_tree",
    "grow_tree",
    "public_keys",
    "written_public_keys",
]
