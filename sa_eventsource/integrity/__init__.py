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
from sa_eventsource.integrity.proofs_of_base import ProofsOfBase, proofs_on
from sa_eventsource.integrity.rewritten_events import recorded_rewriting
from sa_eventsource.integrity.signing_keys import (
    EnvironmentSigningKey,
    FileSigningKey,
    ServiceSigningKey,
    public_keys,
    written_public_keys,
)
from sa_eventsource.integrity.timestamps import timestamp_request, timestamped_at, with_timestamp
from sa_eventsource.integrity.tree_comparison import Discrepancy, TreeComparison
from sa_eventsource.integrity.tree_growth import async_grow_tree, grow_tree
from sa_eventsource.integrity.tree_heads import Head

__all__ = [
    "Discrepancy",
    "EnvironmentSigningKey",
    "ExtensionProof",
    "FileSigningKey",
    "Head",
    "InclusionProof",
    "ProofsOfBase",
    "ServiceSigningKey",
    "TreeComparison",
    "async_grow_tree",
    "async_newest_head",
    "async_prove",
    "async_prove_extension",
    "grow_tree",
    "newest_head",
    "proofs_on",
    "prove",
    "prove_extension",
    "public_keys",
    "recorded_rewriting",
    "timestamp_request",
    "timestamped_at",
    "with_timestamp",
    "written_public_keys",
]
