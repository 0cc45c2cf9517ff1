"""What leads to what: as process managers declare it, and as the log has it in causation ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from sqlalchemy import func, select

from sa_eventsource.consumers import consumers_on
from sa_eventsource.events import CLOSED_TYPE, current_class, current_type, members, split_sources
from sa_eventsource.processes import ProcessSubscription

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from sa_eventsource.mapping import EventSourceTables

Pair: TypeAlias = tuple[str, str]
"""The types of an event and of one that follows from it."""


@dataclass(frozen=True, slots=True)
class Link:
    """Events of one type that lead to events of another one.

    Attributes:
        cause: The type of the first.
        effect: The type of the second; empty where a process manager reacts to the first, and nothing of it is in the log.
        number: How often that is in the log; None where no log was looked at.
        drift: ``"not declared"`` for what the log has and no process manager declares, but that it may close its stream; ``"never
            seen"`` for the reverse; None where both say so, or no log was looked at.
    """

    cause: str
    effect: str
    number: int | None
    drift: Literal["not declared", "never seen"] | None


def declared_causation(tables: EventSourceTables) -> dict[str, frozenset[str]]:
    """Find what may follow from an event: the events of the process managers that react to it, by stored names."""
    found: dict[str, frozenset[str]] = {}
    for consumer in consumers_on(tables):
        if isinstance(consumer, ProcessSubscription):
            effects = frozenset(each.__event_type__ for each in members(consumer.process.definition.handlers.functions()))
            for event_class in members(consumer.process.reactions):
                name = event_class.__event_type__
                found[name] = found.get(name, frozenset()) | effects
    return found


def observed_causation(connection: Connection, tables: EventSourceTables, *, newest: int | None = None) -> dict[Pair, int]:
    """Count in the log which events name which others as their cause, by the present names of their types.

    Args:
        connection: Where to read.
        tables: The tables of the log.
        newest: Look at so many events only, those with the highest positions; None for all.
    """
    events = tables.events
    causes, effects = events.alias("cause"), events.alias("effect")
    counted = (
        select(causes.c.event_type, effects.c.event_type, func.count())
        .join_from(effects, causes, effects.c.causation_id == causes.c.event_id)
        .group_by(causes.c.event_type, effects.c.event_type)
    )
    if newest is not None:
        places = select(events.c.position).order_by(events.c.position.desc()).limit(newest).subquery()
        # Asked for by itself: of a value, the planner knows how few events come after it.
        first: int | None = connection.scalar(select(func.min(places.c.position)))
        counted = counted.where(effects.c.position >= (first or 0))
    found: dict[Pair, int] = {}
    for cause, effect, number in connection.execute(counted):
        pair = current_type(cause), current_type(effect)
        found[pair] = found.get(pair, 0) + number
    return found


def links(declared: Mapping[str, frozenset[str]], observed: Mapping[Pair, int] | None) -> list[Link]:
    """Put what is declared alongside what was observed.

    Args:
        declared: What :func:`declared_causation` gave.
        observed: What :func:`observed_causation` gave; None where no log was looked at.
    """
    if observed is None:
        return [Link(cause, effect, None, None) for cause in sorted(declared) for effect in sorted(declared[cause]) or [""]]
    found = [
        Link(cause, effect, number, None if effect == CLOSED_TYPE or effect in _declared_of(declared, cause) else "not declared")
        for (cause, effect), number in observed.items()
    ]
    seen = {(each.cause, each.effect) for each in found}
    found += [
        Link(cause, effect, 0, "never seen")
        for cause, effects in declared.items()
        for effect in effects or [""]
        if (cause, effect) not in seen
    ]
    return sorted(found, key=lambda each: (each.cause, each.effect))


def _declared_of(declared: Mapping[str, frozenset[str]], cause: str) -> frozenset[str]:
    """Find what may follow from events of a stored type; where they are read as others, what may follow from these."""
    if cause in declared:
        return declared[cause]
    parts = (name for name in declared if cause in {each.event_type for each in split_sources(current_class(name, 1))})
    return frozenset().union(*(declared[name] for name in parts))
