"""What is built once for a table, such as the statements of the hot path, and is kept for as long as the table's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Table

_BUILT = "sa_eventsource.built"


def built_for(table: Table) -> dict[Any, Any]:
    """Get the dictionary in which what was built for a table is kept, under keys that hold the table.

    It goes with the metadata. In a dictionary of a module, even one with weak keys, a statement would keep its own table alive, and
    with that the metadata, the base and all its classes.
    """
    kept: dict[Any, Any] = table.metadata.info.setdefault(_BUILT, {})
    return kept
