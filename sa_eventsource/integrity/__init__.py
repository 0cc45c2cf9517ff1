"""Proofs: a Merkle tree over the log, whose heads show that no event was altered, removed or slipped in."""

from sa_eventsource.integrity.event_proofs import (
    ExtensionProof,
    InclusionProof,
    async_newest_head,
    async_prove,
    async_prove_extension,
    newest_head,
    prove,
    prove_extension,
)
from sa_eventsource.integrity.leaves import hash_of_event
from sa_eventsource.integrity.proofs_of_base import ProofsOfBase, proofs_on
from sa_eventsource.integrity.rewritten_events import recorded_rewriting
from sa_eventsource.integrity.signed_trees import known_public_keys
from sa_eventsource.integrity.signing_keys import (
    EnvironmentSigningKey,
    FileSigningKey,
    ServiceSigningKey,
    public_keys,
    written_public_keys,
)
from sa_eventsource.integrity.stored_tree import StoredTree
from sa_eventsource.integrity.timestamps import timestamp_request, timestamped_at, with_timestamp
from sa_eventsource.integrity.tree_comparison import Discrepancy, TreeComparison
from sa_eventsource.integrity.tree_growth import async_grow_tree, grow_tree
from sa_eventsource.integrity.tree_heads import Head
from sa_eventsource.integrity.tree_status import TreeStatus, async_tree_status, tree_status

__all__ = [
    "Discrepancy",
    "EnvironmentSigningKey",
    "ExtensionProof",
    "FileSigningKey",
    "Head",
    "InclusionProof",
    "ProofsOfBase",
    "ServiceSigningKey",
    "StoredTree",
    "TreeComparison",
    "TreeStatus",
    "async_grow_tree",
    "async_newest_head",
    "async_prove",
    "async_prove_extension",
    "async_tree_status",
    "grow_tree",
    "hash_of_event",
    "known_public_keys",
    "newest_head",
    "proofs_on",
    "prove",
    "prove_extension",
    "public_keys",
    "recorded_rewriting",
    "timestamp_request",
    "timestamped_at",
    "tree_status",
    "with_timestamp",
    "written_public_keys",
]
