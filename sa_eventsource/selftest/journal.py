"""What each process of the self-test knows for certain, in a file of its own: it outlives the process and the database."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

Outcome: TypeAlias = Literal["committed", "rolled back", "refused", "cut", "unknown"]
"""What a writer knows of a transaction: it was told that it is committed; it rolled it back; it was told that it lost against
another; it lost the connection before it asked for the commit; it lost the connection, or its life, while it asked."""


class Journal:
    """Lines that a process writes; each is in the file when :meth:`note` returns, even if the process is killed then."""

    def __init__(self, path: Path) -> None:
        """Begin a file, or go on with it."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, what: str, *about: Any) -> None:
        """Write one line."""
        os.write(self._file, json.dumps([what, *about]).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        """Close it in the end."""
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None) -> None:
        """Close it."""
        self.close()


@dataclass(slots=True)
class Transaction:
    """What its writer knows of a transaction.

    Attributes:
        name: Its name.
        events: How many events it appends, with the marks ``name/0``, ``name/1`` and so on.
        undone: How many it appends in a savepoint that is rolled back, with the marks ``name/undone/0`` and so on.
        outcome: What became of it.
    """

    name: str
    events: int
    undone: int
    outcome: Outcome = "unknown"

    @property
    def marks(self) -> list[str]:
        """The marks of the events that are committed with it."""
        return [f"{self.name}/{number}" for number in range(self.events)]

    @property
    def undone_marks(self) -> list[str]:
        """The marks of the events that are not, whatever becomes of it."""
        return [f"{self.name}/undone/{number}" for number in range(self.undone)]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A transaction was told that another had appended to the stream.

    Attributes:
        transaction: Its name.
        aggregate_type: Of the stream.
        aggregate_id: Of the stream.
        expected: The version that the transaction had seen.
        actual: The version that there was; None where it could not be seen.
    """

    transaction: str
    aggregate_type: str
    aggregate_id: str
    expected: int
    actual: int | None


@dataclass(slots=True)
class Journals:
    """What all processes have noted.

    Attributes:
        transactions: By name.
        refusals: The conflicts.
        duels: Names of two transactions that appended to one stream at the same version, while nobody else did.
        calls: What the subscription did outside of the database: the id of its transaction, and the event's mark.
        reads: Whether a writer that waited for its own events found them, with what it found instead.
        failures: Errors that no process may meet.
        hindrances: Errors that say that nothing can be tested here.
        counts: How often anything else was noted.
    """

    transactions: dict[str, Transaction] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    duels: list[tuple[str, str]] = field(default_factory=list)
    calls: list[tuple[int, str]] = field(default_factory=list)
    reads: list[str | None] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    hindrances: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, folder: Path) -> Journals:
        """Read all journals in a folder."""
        found = cls()
        for path in sorted(folder.glob("*.journal")):
            for what, *about in _lines(path):
                found._add(what, about)
        return found

    def _add(self, what: str, about: list[Any]) -> None:
        match what:
            case "begun":
                self.transactions[about[0]] = Transaction(*about)
            case "ended":
                self.transactions[about[0]].outcome = about[1]
            case "lost against":
                self.refusals.append(Refusal(*about))
            case "duel":
                self.duels.append((about[0], about[1]))
            case "called":
                self.calls.append((about[0], about[1]))
            case "read":
                self.reads.append(about[0])
            case "failed":
                self.failures.append(about[0])
            case "unsuitable":
                self.hindrances.append(about[0])
            case _:
                self.counts[what] += 1


def _lines(path: Path) -> Iterator[list[Any]]:
    """Read the lines of a journal; a last one that its writer did not finish is left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
