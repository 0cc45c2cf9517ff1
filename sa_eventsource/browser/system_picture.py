"""Where things stand in the picture of a system: aggregates on the left, their events, and on the right who takes these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from sa_eventsource.browser.shown_text import shortened
from sa_eventsource.evolution import kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sa_eventsource.evolution import DeclaredSystem, Link

NodeKind: TypeAlias = Literal["aggregate", "event", "read model", "process manager", "subscription", "publisher"]
EdgeKind: TypeAlias = Literal["applies", "takes", "leads to", "not declared"]

_LINE, _HEIGHT, _TOP, _EDGE = 38, 28, 12, 12
_GAP = 150
_LETTER, _LONGEST, _PADDING = 7.4, 38, 26
_BULGE, _WIDEST_BULGE = 26, 90


@dataclass(frozen=True, slots=True)
class Node:
    """A box in the picture, in pixels.

    Attributes:
        kind: What it is.
        name: Its name.
        label: The name, as far as it fits.
        x: How far from the left it begins.
        y: How far from the top its middle is.
        width: Its width.
        neighbours: The names of those that it has lines to, for those who do not see the picture.
    """

    kind: NodeKind
    name: str
    label: str
    x: int
    y: int
    width: int
    neighbours: Sequence[str]


@dataclass(frozen=True, slots=True)
class Edge:
    """A line in the picture: what it says, and its path, as SVG writes it."""

    kind: EdgeKind
    path: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture: its size, its boxes from the left to the right, and its lines."""

    width: int
    height: int
    node_height: int
    nodes: Sequence[Node]
    edges: Sequence[Edge]


_Key: TypeAlias = tuple[NodeKind, str]


class _Joined(NamedTuple):
    """A line: what it says, and the boxes that it begins and ends at."""

    kind: EdgeKind
    first: _Key
    second: _Key


def picture_of(system: DeclaredSystem, links: Sequence[Link], around: str | None = None) -> Picture:
    """Draw a system.

    Args:
        system: What the code declares.
        links: What follows from what; what was not declared gets a line from event to event.
        around: The stored name of an event, to draw only that and what it has to do with; None for all.
    """
    joined = [
        each for each in _joined(system, links) if around is None or ("event", around) in each[1:] or _is_near(each, system, around)
    ]
    keys = {key for _, *ends in joined for key in ends}
    if around is None:
        keys |= {("event", name) for name in system.events}
    else:
        keys.add(("event", around))
    columns = _columns(system, keys, joined)
    places: dict[_Key, tuple[int, int, int]] = {}
    left = _EDGE
    for column in columns:
        width = max((_width(name) for _, name in column), default=0)
        places |= {key: (left, y, width) for key, y in column.items()}
        left += width + _GAP if column else 0
    neighbours: dict[_Key, list[str]] = {}
    for _, first, second in joined:
        neighbours.setdefault(first, []).append(second[1])
        neighbours.setdefault(second, []).append(first[1])
    nodes = [
        Node(*key, shortened(key[1], _LONGEST), *places[key], list(dict.fromkeys(neighbours.get(key, ()))))
        for column in columns
        for key in column
    ]
    bottom = max((each.y for each in nodes), default=0)
    edges = [Edge(kind, _path(places[first], places[second])) for kind, first, second in joined]
    return Picture(max(left - _GAP, 0) + _EDGE, bottom + _LINE // 2 + _TOP, _HEIGHT, nodes, edges)


def _joined(system: DeclaredSystem, links: Sequence[Link]) -> list[_Joined]:
    """List the lines."""
    found: list[_Joined] = []
    processes = {name for name, each in system.consumers.items() if kind_of(each) == "process manager"}
    for owner, events in system.owners.items():
        if owner in processes:  # which stands on the right, and leads back
            found.extend(_Joined("leads to", ("process manager", owner), ("event", event)) for event in events)
        else:
            found.extend(_Joined("applies", ("aggregate", owner), ("event", event)) for event in events)
    for name, consumer in system.consumers.items():
        taken = sorted(system.events.keys() & consumer.event_classes.keys())
        found.extend(_Joined("takes", ("event", event), (kind_of(consumer), name)) for event in taken)
    found.extend(
        _Joined("not declared", ("event", each.cause), ("event", each.effect))
        for each in links
        if each.drift == "not declared" and each.cause in system.events and each.effect in system.events
    )
    return found


def _is_near(joined: _Joined, system: DeclaredSystem, event: str) -> bool:
    """Check whether a line is an event's own, or is from a process manager that it leads to, or to one that leads to it."""
    kind, first, second = joined
    if ("event", event) in (first, second):
        return True
    if kind == "leads to":
        return event in system.consumers[first[1]].event_classes
    return kind == "takes" and second[0] == "process manager" and event in system.owners.get(second[1], ())


def _columns(system: DeclaredSystem, keys: Collection[_Key], joined: Sequence[_Joined]) -> list[dict[_Key, int]]:
    """Give each box its height: events by their aggregates, the others next to the events that they have lines to."""
    ends: dict[_Key, list[_Key]] = {}
    for _, first, second in joined:
        ends.setdefault(first, []).append(second)
        ends.setdefault(second, []).append(first)
    owners = {event: owner for owner, events in sorted(system.owners.items(), reverse=True) for event in events}
    processes = {name for kind, name in keys if kind == "process manager"}
    events = sorted(
        (each for each in keys if each[0] == "event"),
        key=lambda each: (owners.get(each[1], "") in processes, owners.get(each[1], ""), each[1]),
    )
    middle = {key: _TOP + _LINE // 2 + _LINE * number for number, key in enumerate(events)}
    aggregates = _beside(middle, ends, (each for each in keys if each[0] == "aggregate"))
    takers = _beside(middle, ends, (each for each in keys if each[0] not in ("aggregate", "event")))
    lowest = max([0, *middle.values(), *aggregates.values(), *takers.values()])
    return [_centred(aggregates, lowest), _centred(middle, lowest), _centred(takers, lowest)]


def _beside(middle: Mapping[_Key, int], ends: Mapping[_Key, Sequence[_Key]], keys: Iterable[_Key]) -> dict[_Key, int]:
    wanted: dict[_Key, float] = {}
    for key in keys:
        heights = [middle[each] for each in ends.get(key, ()) if each in middle]
        wanted[key] = sum(heights) / len(heights) if heights else 0
    found: dict[_Key, int] = {}
    free = _TOP + _LINE // 2
    for key in sorted(wanted, key=lambda each: (wanted[each], each)):
        found[key] = max(free, round(wanted[key]))
        free = found[key] + _LINE
    return found


def _centred(column: dict[_Key, int], lowest: int) -> dict[_Key, int]:
    """Move a column that is shorter than the others by half of what is missing, if it begins at the top."""
    if not column or min(column.values()) > _TOP + _LINE // 2:
        return column
    down = (lowest - max(column.values())) // 2
    return {key: y + down for key, y in column.items()}


def _path(first: tuple[int, int, int], second: tuple[int, int, int]) -> str:
    """Draw a line: to the right, back to the left, or beside the column that both boxes are in."""
    x1, y1, width1 = first
    x2, y2, width2 = second
    if x1 == x2:
        x1 = x2 = x1 + width1
        bulge = min(_BULGE + abs(y2 - y1) // 4, _WIDEST_BULGE)
        return f"M{x1} {y1 + 5}C{x1 + bulge} {y1 + 5} {x2 + bulge} {y2 - 5} {x2 + 3} {y2 - 5}"
    if x1 < x2:
        x1 += width1
        return f"M{x1} {y1}C{x1 + _GAP // 2} {y1} {x2 - _GAP // 2} {y2} {x2 - 3} {y2}"
    x2 += width2
    return f"M{x1} {y1 + 6}C{x1 - _GAP // 2} {y1 + 6} {x2 + _GAP // 2} {y2 + 6} {x2 + 3} {y2 + 6}"


def _width(name: str) -> int:
    """Guess the width of a box: a server has no fonts."""
    return round(min(len(name), _LONGEST) * _LETTER) + _PADDING
