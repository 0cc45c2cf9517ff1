"""The events of the domains that many folders use: no test changes what they are.

What takes an event takes those that inherit from it too, and asks its upcasters. A test that declared one more would change what
every later test in its process declares, and a process that such a test starts would not know of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sa_eventsource import DomainEvent
from sa_eventsource.events import family
from sa_eventsource.events.upcasting import reading_steps
from tests import bank, clinic, orders, shop

_EVENTS = [
    each
    for module in (bank, clinic, orders, shop)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, DomainEvent) and each.__module__ == module.__name__
]


def changes_of_shared_events() -> Iterator[str]:
    """Name what inherits from a shared event, or turns other stored events into it."""
    for event in _EVENTS:
        yield from (f"{each.__qualname__} inherits from {event.__qualname__}" for each in family(event) if each is not event)
        yield from (f"{name} version {version} is read as {event.__qualname__}" for name, version, _ in reading_steps(event))
