"""What each library has to do, and who takes part."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import URL

FOLLOWING = "following"
DELAY = "delay"
APPENDING = "appending"
MEASURES = (FOLLOWING, APPENDING, DELAY)


class Contender(Protocol):
    """One library in one configuration.

    Its aggregate is an order that gets lines (``benchmarks.peers.orders``); its read model is a table with a row an order: its id
    as text, the number of its lines, and their total.
    """

    view: str
    """The read model's table, with the columns ``id``, ``lines`` and ``total``."""

    def create_tables(self) -> None:
        """Create what the library and the read model need."""

    def append(self, lines: int) -> UUID:
        """Commit a new order with so many lines, an event each, and return its id."""
        ...

    def catch_up(self) -> None:
        """Let the read model take all events that it has not taken, and return when it has."""

    def rebuild(self) -> None:
        """Make the read model's rows anew from all events."""

    def forget(self) -> None:
        """Remove the read model's rows, and what it knows of its progress."""

    def follow(self) -> None:
        """Keep the read model up with the log, as the library's worker does; never return."""

    def close(self) -> None:
        """Let go of connections and threads."""


@dataclass(frozen=True)
class Entry:
    """A contender that takes part.

    Attributes:
        name: How the table calls it.
        module: The module of this package that has it, as ``contender(url, connections, **options)``.
        package: The Python package without which it cannot take part.
        options: What makes the difference between two contenders of a library.
        measures: What is measured; the rest would repeat another contender of the library.
    """

    name: str
    module: str
    package: str
    options: tuple[tuple[str, bool], ...] = ()
    measures: frozenset[str] = frozenset(MEASURES)

    def open(self, url: URL, connections: int) -> Contender:
        """Connect to the database that all share."""
        contender: Contender = import_module(f"benchmarks.peers.{self.module}").contender(url, connections, **dict(self.options))
        return contender


_ENTRIES = (
    Entry("sa_eventsource", "ours", "sa_eventsource"),
    Entry("sa_eventsource, @evolves", "ours", "sa_eventsource", (("evolving", True),), frozenset({FOLLOWING, DELAY})),
    Entry("eventsourcing", "pyeventsourcing", "eventsourcing"),
    Entry("eventsourcing, functions", "pyeventsourcing", "eventsourcing", (("functions", True),), frozenset({DELAY, APPENDING})),
    Entry("python-event-sourcery", "sourcery", "event_sourcery_sqlalchemy"),
)


def present() -> dict[str, Entry]:
    """Those whose library is installed, by name; sa_eventsource is the first."""
    return {entry.name: entry for entry in _ENTRIES if find_spec(entry.package) is not None}
