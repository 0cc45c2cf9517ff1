"""The schema: the picture of the system, its events with counts, commands, what follows from what; and a page for each event."""

from __future__ import annotations

import json
from dataclasses import dataclass
from inspect import getdoc
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from sa_eventsource.aggregates import definition_of
from sa_eventsource.browser.event_counts import Count, count_events
from sa_eventsource.browser.model_words import events_in_words
from sa_eventsource.browser.page import Address, Page
from sa_eventsource.browser.system_picture import picture_of
from sa_eventsource.events import ARCHIVED_TYPE, CLOSED_TYPE, is_readable, place, reading_steps, split_sources, stored_types
from sa_eventsource.evolution import KINDS, declared_system, json_schema_of, links, observed_causation
from sa_eventsource.replays import Applied, code_of, method_applying

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from starlette.responses import Response

    from sa_eventsource.browser.event_counts import Counts
    from sa_eventsource.browser.page import Visit
    from sa_eventsource.events import DomainEvent, SplitSource
    from sa_eventsource.evolution import DeclaredSystem

_NEWEST = 10_000
"""Among how many events, the newest ones, causes are looked for: each of them takes a look at another event."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Events that are stored under one name and version.

    Attributes:
        event_type: The name.
        version: The version.
        count: How many there are.
    """

    event_type: str
    version: int
    count: Count


@dataclass(frozen=True, slots=True)
class ReadingStep:
    """What brings stored events into the shape of their class: which it takes, and a function, or the class of an older version."""

    event_type: str
    version: int
    name: str
    code: Applied | None


def show_schema(visit: Visit) -> Response:
    """Show all of it."""
    system = declared_system(visit.tables)
    exactly = visit.asked("exactly") is not None
    counts = count_events(visit.connection, visit.tables.events, exactly=exactly)
    known = {name for each in system.events.values() for name in stored_types(each)}
    observed = observed_causation(visit.connection, visit.tables, newest=_NEWEST)
    followed = links(system.causation, observed)
    split = split_sources()
    return visit.render(
        "schema.html",
        picture=picture_of(system, followed),
        system=system,
        stored={name: _stored(counts, stored_types(each)) for name, each in system.events.items()},
        others=_stored(counts, {name for name, _ in counts} - known - {each.event_type for each in split} - _OWN),
        split=[(each, _read_as(system, each), _stored(counts, {each.event_type})) for each in split],
        is_readable=is_readable,
        is_exact=all(each.is_exact for each in counts.values()),
        takers=_takers(system),
        places={name: place(each) for name, each in system.commands.items()},
        links=followed,
        newest=_NEWEST,
        page_of=_PAGES,
    )


def show_event_type(visit: Visit) -> Response:
    """Show one type of events."""
    name = visit.asked("type")
    system = declared_system(visit.tables)
    event_class = system.events.get(name or "")
    if name is None or event_class is None:
        raise HTTPException(404, f"No aggregate and no read model here has events of type {name}. Is its module imported?")
    counts = count_events(visit.connection, visit.tables.events, exactly=visit.asked("exactly") is not None)
    observed = observed_causation(visit.connection, visit.tables, newest=_NEWEST)
    followed = links(system.causation, observed)
    said = getdoc(event_class)
    return visit.render(
        "schema_event.html",
        name=name,
        event_class=event_class,
        said=said if said != getdoc(event_class.__mro__[1]) else None,
        place=place(event_class),
        stored=_stored(counts, stored_types(event_class)),
        picture=picture_of(system, followed, around=name),
        schema=_schema_text(event_class),
        steps=_steps(event_class),
        applied=_applied(visit, system, event_class),
        takers=_takers(system)[name],
        words=_words(system, name),
        links=[each for each in followed if name in (each.cause, each.effect)],
        newest=_NEWEST,
        page_of=_PAGES,
        link_form=visit.source.link_form,
    )


_OWN = {CLOSED_TYPE, ARCHIVED_TYPE}
"""The library's own events, which no application declares."""

_PAGES = {"read model": "model", "process manager": "process", "subscription": "subscription", "publisher": "subscription"}
"""Which address shows a consumer of a kind."""


def _stored(counts: Counts, names: Collection[str]) -> list[Stored]:
    return [Stored(*key, count) for key, count in sorted(counts.items()) if key[0] in names]


def _read_as(system: DeclaredSystem, source: SplitSource) -> list[str]:
    """List the events that stored ones may be read as."""
    return [name for name, each in system.events.items() if source in split_sources(each)]


def _takers(system: DeclaredSystem) -> dict[str, list[tuple[str, list[str]]]]:
    """List for each event who takes it, by kind."""
    return {name: [(kind, taken) for kind in KINDS if (taken := system.takers_of(name, kind))] for name in system.events}


def _words(system: DeclaredSystem, event_type: str) -> Mapping[str, Sequence[tuple[str, str]]]:
    """Say what an event does to the rows of each read model."""
    found: dict[str, Sequence[tuple[str, str]]] = {}
    for name in system.takers_of(event_type, "read model"):
        definition: Any = system.consumers[name]
        found[name] = next(each.sentences for each in events_in_words(definition) if each.event_type == event_type)
    return found


def _schema_text(event_class: type[DomainEvent]) -> str | None:
    schema = json_schema_of(event_class)
    return None if schema is None else json.dumps(schema, ensure_ascii=False)


def _steps(event_class: type[DomainEvent]) -> list[ReadingStep]:
    return [
        ReadingStep(name, version, place(step), None if isinstance(step, type) else code_of(step))
        for name, version, step in reading_steps(event_class)
    ]


def _applied(visit: Visit, system: DeclaredSystem, event_class: type[DomainEvent]) -> list[tuple[str, Applied | None]]:
    """List the aggregates that apply an event, each with its method; None where it ignores it."""
    classes = visit.tables.aggregate_classes
    owners = system.owners_of(event_class.__event_type__)
    return [(name, method_applying(definition_of(classes[name]), event_class)) for name in owners]


PAGE = Page(
    addresses=(Address("schema", "/schema", show_schema), Address("event_type", "/schema/event", show_event_type)),
    navigation="Schema",
)
