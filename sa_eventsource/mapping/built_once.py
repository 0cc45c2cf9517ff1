"""What is built once for some tables, such as the statements of the hot path, and is kept for as long as their metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import MetaData

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_BUILT = "sa_eventsource.built"


def built_once(metadata: MetaData, build: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Get what a function makes of some arguments, among which are tables of a metadata; it is called the first time.

    What it made goes with the metadata. In a dictionary of a module, even one with weak keys, a statement would keep its own table
    alive, and with that the metadata, the base and all its classes.

    Args:
        metadata: The metadata of the tables.
        build: The function.
        *arguments: What it is called with, hashable.
    """
    kept: dict[Any, T] = metadata.info.setdefault(_BUILT, {})
    name = build, *arguments
    found = kept.get(name)
    if found is None:
        found = kept[name] = build(*arguments)
    return found
