"""Is the log what its Merkle tree, and heads of it that were kept elsewhere, say that it is?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from sa_eventsource.integrity import TreeComparison, proofs_on
from sa_eventsource.verification.findings import Finding, first_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from sa_eventsource.integrity import Head
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.verification.findings import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofOptions:
    """What the log is compared with.

    Attributes:
        heads: Heads that were kept elsewhere: without one, whoever can write to all tables can replace the log unseen.
        public_keys: The public keys of those who sign heads, by id; None to look at no signature.
        is_moved: Whether the log was exported and imported since the heads were made: then its positions are others.
    """

    heads: Sequence[Head] = ()
    public_keys: Mapping[str, bytes] | None = None
    is_moved: bool = False


@dataclass(slots=True)
class ProofCheck:
    """Compares the log with its tree.

    Attributes:
        options: What it is compared with.
        covered: How many events are in the tree.
        uncovered: How many are not in it yet.
    """

    options: ProofOptions
    covered: int = field(default=0, init=False)
    uncovered: int = field(default=0, init=False)

    def findings(self, connection: Connection, tables: EventSourceTables, progress: Progress) -> list[Finding]:
        """Find what was altered, removed or slipped in.

        Raises:
            DeclarationError: The base has no proofs.
        """
        total = connection.scalar(select(func.count()).select_from(tables.events))
        options = self.options
        compared = TreeComparison(proofs_on(tables), options.heads, options.public_keys, options.is_moved)
        found = first_of(
            Finding("proofs", each.subject, each.message, is_warning=each.is_warning)
            for each in compared.discrepancies(connection, lambda done: progress("proofs", done, total))
        )
        self.covered, self.uncovered = compared.covered, compared.uncovered
        return found
