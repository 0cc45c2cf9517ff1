"""A page about what a log has: events, the aggregates that apply them, who takes them, and what follows from what.

Markdown, with a diagram in Mermaid, as GitHub, GitLab and MkDocs show them.
"""

from __future__ import annotations

from inspect import getdoc
from typing import TYPE_CHECKING, Any

from sa_eventsource.events import place, split_sources, stored_types
from sa_eventsource.evolution.causation import links
from sa_eventsource.evolution.declared_system import KINDS, declared_system, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic import BaseModel

    from sa_eventsource.events import DomainEvent
    from sa_eventsource.evolution.causation import Pair
    from sa_eventsource.evolution.declared_system import ConsumerKind
    from sa_eventsource.mapping import EventSourceTables

_LONGEST = 60


def schema_page(tables: EventSourceTables, observed: Mapping[Pair, int] | None = None) -> str:
    """Write the page.

    Args:
        tables: The tables of the log.
        observed: What the log says of causes and effects; None where no log was looked at.
    """
    return "\n".join(_Page(tables, observed).lines()) + "\n"


class _Page:
    def __init__(self, tables: EventSourceTables, observed: Mapping[Pair, int] | None) -> None:
        self._system = declared_system(tables)
        self._links = links(self._system.causation, observed)
        self._has_log = observed is not None
        self._ids: dict[tuple[str, str], str] = {}

    def lines(self) -> Iterator[str]:
        """Write all of it."""
        yield from ("# Events", "", *self._diagram(), "", "## What each event is", "")
        for event_class in self._system.events.values():
            yield from self._event(event_class)
        yield from self._split()
        yield from self._commands()
        yield from self._causation()

    def _diagram(self) -> Iterator[str]:
        yield "```mermaid"
        yield "flowchart LR"
        names = self._system.events.keys()
        for name in names:
            yield f"    {self._id('event', name)}[{_quoted(name)}]"
        for name, events in self._system.owners.items():
            yield f"    {self._id('aggregate', name)}([{_quoted(name)}])"
            yield from (f"    {self._id('aggregate', name)} --> {self._id('event', each)}" for each in events)
        for name, consumer in self._system.consumers.items():
            kind = kind_of(consumer)
            here = self._id(kind, name)
            yield f"    {here}{{{{{_quoted(f'{kind}: {name}')}}}}}"
            yield from (f"    {self._id('event', each)} --> {here}" for each in sorted(names & consumer.event_classes.keys()))
        for link in self._links:
            if link.effect:
                arrow = "-.->" if link.drift is None else f'-. "{link.drift}" .->'
                yield f"    {self._id('event', link.cause)} {arrow} {self._id('event', link.effect)}"
        yield "```"

    def _id(self, kind: str, name: str) -> str:
        return self._ids.setdefault((kind, name), f"n{len(self._ids)}")

    def _event(self, event_class: type[DomainEvent]) -> Iterator[str]:
        name, version = event_class.__event_type__, event_class.__event_version__
        yield from (f"### {_text(name)}", "")
        said = getdoc(event_class)
        if said and said != getdoc(event_class.__mro__[1]):
            yield from (said, "")
        yield f"`{place(event_class)}`, version {version}"
        former = [each for each in stored_types(event_class) if each != name]
        if former:
            yield f"; once {', '.join(map(_text, former))}"
        yield ""
        if event_class.model_fields:
            yield from _table(("field", "type", "required"), ([*each] for each in _fields(event_class)))
        yield from _told("Applied by", self._system.owners_of(name))
        for kind in KINDS:
            yield from _told(_TAKEN[kind], self._system.takers_of(name, kind))

    def _split(self) -> Iterator[str]:
        sources = split_sources()
        if sources:
            yield from ("## Stored events that are read as others, or as none", "")
            yield from _table(("type", "up to version"), ([_text(name), str(version)] for name, version in sources))

    def _commands(self) -> Iterator[str]:
        commands = self._system.commands
        if commands:
            yield from ("## Commands", "")
            rows = ([_text(name), f"`{place(each)}`", ", ".join(each.model_fields)] for name, each in commands.items())
            yield from _table(("command", "class", "fields"), rows)

    def _causation(self) -> Iterator[str]:
        if not self._links:
            return
        yield from ("## What follows from what", "")
        if not self._has_log:
            yield from ("As process managers declare it; no log was looked at.", "")
        rows = (
            [
                _text(each.cause),
                _text(each.effect) or "commands only",
                "" if each.number is None else str(each.number),
                f"**{each.drift}**" if each.drift else "",
            ]
            for each in self._links
        )
        yield from _table(("event", "leads to", "in the log", "drift"), rows)


_TAKEN: dict[ConsumerKind, str] = {
    "read model": "Projected by",
    "process manager": "Reacted to by",
    "subscription": "Taken by",
    "publisher": "Published by",
}


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for name, info in model.model_fields.items():
        yield (
            f"`{info.serialization_alias or info.alias or name}`",
            f"`{_type_name(info.annotation)}`",
            "yes" if info.is_required() else "no",
        )


def _type_name(annotation: Any) -> str:
    written = (
        annotation.__name__
        if isinstance(annotation, type) and not hasattr(annotation, "__args__")
        else str(annotation).replace("typing.", "")
    )
    return written if len(written) <= _LONGEST else f"{written[: _LONGEST - 1]}…"


def _told(words: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        yield from (f"{words}: {', '.join(map(_text, names))}", "")


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(each.replace('|', chr(92) + '|') for each in row)} |"
    yield ""


def _text(name: str) -> str:
    """Write a name that Markdown leaves as it is."""
    return "".join(f"\\{each}" if each in "\\`*_{}[]<>#|" else each for each in name)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', "#quot;") + '"'
