"""What is seen of a world after each operation, and where two worlds may look different."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import groupby
from traceback import clear_frames
from typing import Any

from sqlalchemy import inspect

from tests.twin.worlds import Operation, World


@dataclass(frozen=True)
class Outcome:
    """What came of an operation.

    Attributes:
        value: What it gave.
        error: The class of what it raised; None if it did not.
        told: The error's text, for the reader of a failure.
        warned: The classes of the warnings.
        heard: The session's events, in order.
    """

    value: Any
    error: type[BaseException] | None
    told: str
    warned: tuple[type[Warning], ...]
    heard: tuple[str, ...]


def observe(world: World, operation: Operation) -> Outcome:
    """Run an operation in a world."""
    world.heard.clear()
    value, error, told = None, None, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = world.perform(operation)
        except BaseException as raised:
            if isinstance(raised, KeyboardInterrupt):
                raise
            error, told = type(raised), f"{type(raised).__name__}: {raised}"
            _let_go(raised)
            sqlstate = getattr(getattr(raised, "orig", None), "sqlstate", None)
            told += f" [{sqlstate}]" if sqlstate else ""
    return Outcome(value, error, told, tuple(each.category for each in caught), _meant(world.heard, error))


def _let_go(error: BaseException | None) -> None:
    """Let go of what the frames of an error's traceback hold: the session keeps the error until its rollback; see the table."""
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _meant(heard: list[str], error: type[BaseException] | None) -> tuple[str, ...]:
    """Leave out what is not the same twice, or differs by the table.

    Events of several instances at once come in any order. A flush of aggregates that fails has two transactions, both rolled back.
    """
    if error is not None:
        heard = [name for name in heard if name not in ("after_transaction_create", "after_transaction_end")]
        first = heard.index(_ROLLED_BACK) + 1 if _ROLLED_BACK in heard else 0
        heard = heard[:first] + [name for name in heard[first:] if name != _ROLLED_BACK]
    groups = (sorted(names) for _, names in groupby(heard, key=lambda name: "" if "_to_" in name else name))
    return tuple(name for names in groups for name in names)


_ROLLED_BACK = "after_soft_rollback"


@dataclass(frozen=True)
class Sight:
    """What an application can see of its session and its variables without loading anything."""

    instances: dict[int, Any]
    same: tuple[tuple[int, int], ...]
    session: dict[str, Any]
    stored: dict[str, tuple[str, ...]]


def look(world: World) -> Sight:
    """Look at a world."""
    session = world.session
    slots = sorted(world.slots.items())
    return Sight(
        instances={slot: _instance(world, each) for slot, each in slots},
        same=tuple((a, b) for a, first in slots for b, second in slots if a < b and first is second),
        session={
            "active": session.is_active,
            "in transaction": session.in_transaction(),
            "in a savepoint": session.in_nested_transaction(),
            "held": sorted(world.key(each) for each in session.identity_map.values()),
            "new": sorted(world.key(each) for each in session.new),
            "dirty": sorted(world.key(each) for each in session.dirty),
            "deleted": sorted(world.key(each) for each in session.deleted),
        },
        stored=world.stored(),
    )


def _instance(world: World, instance: Any) -> dict[str, Any]:
    state = inspect(instance)
    names = ("transient", "pending", "persistent", "detached", "deleted")
    return {
        "key": world.key(instance),
        "state": next(name for name in names if getattr(state, name)),
        "here": instance in world.session,
        "loaded": world.loaded(instance),
        "unflushed": world.unflushed(instance),
    }


def differing(ours: Any, twins: Any) -> list[str]:
    """Name what differs between two sights."""
    found = []
    for name in ("instances", "same", "session", "stored"):
        mine, other = getattr(ours, name), getattr(twins, name)
        if mine != other:
            found.append(f"{name}: the aggregate's {mine!r}, the twin's {other!r}")
    return found
