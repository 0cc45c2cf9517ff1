"""What a base has for proofs, and the connection on which they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import tables_of_base, tables_with_proofs

if TYPE_CHECKING:
    from sqlalchemy import Table

    from sa_eventsource.mapping import EventSourceTables, SigningKey


@dataclass(frozen=True, slots=True)
class ProofsOfBase:
    """What a base with proofs has.

    Attributes:
        tables: All its tables.
        merkle_tree: The tree.
        rewritten_events: Which events were rewritten on purpose.
        signing_key: Who signs heads; None for nobody.
    """

    tables: EventSourceTables
    merkle_tree: Table
    rewritten_events: Table
    signing_key: SigningKey | None


def proofs_on(tables: EventSourceTables) -> ProofsOfBase:
    """Get what a base has for proofs.

    Raises:
        DeclarationError: It has none.
    """
    tree, rewritten = tables.merkle_tree, tables.rewritten_events
    if tree is None or rewritten is None:
        raise DeclarationError(
            f"the base of the log {tables.events.name!r} has no proofs. On the declarative base, write "
            "__eventsource__ = EventSourceOptions(proofs=True), migrate the database, and let a worker run"
        )
    return ProofsOfBase(tables, tree, rewritten, tables.options.signing_key)


def proofs_of_base(function: str, base: Any) -> ProofsOfBase:
    """Get what a base has for proofs; that of the only one that has some where none is given.

    Raises:
        DeclarationError: It has none, or it is not clear which base is meant.
        TypeError: It is not a declarative base.
    """
    if base is not None:
        return proofs_on(tables_of_base(f"{function}(base=...)", base))
    found = tables_with_proofs()
    if len(found) != 1:
        raise DeclarationError(f"{len(found) or 'no'} declarative bases have proofs; name one: {function}(..., base=Base)")
    return proofs_on(found[0])
