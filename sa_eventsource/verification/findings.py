"""What a verification has found."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

Check: TypeAlias = Literal[
    "streams",
    "aggregate types",
    "event types",
    "times",
    "metadata",
    "transactions",
    "constraints",
    "partitions",
    "immutability",
    "roles",
    "tenants",
    "row security",
    "checkpoints",
    "parked events",
    "snapshots",
    "read models",
    "proofs",
    "archives",
]

Progress: TypeAlias = "Callable[[str, int, int | None], None]"
"""Called with what is being checked, how many of it are done, and how many there are; None where that is not known."""

MOST_FINDINGS = 100
"""Of one check, or of one model: what is broken in one way is often broken in thousands of places."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be.

    Attributes:
        check: What was looked at.
        subject: What it is about, such as a stream or a row.
        message: What is wrong, and what to do.
        is_warning: Whether all may be well nevertheless.
    """

    check: Check
    subject: str
    message: str
    is_warning: bool = False

    def __str__(self) -> str:
        """One line."""
        return f"{self.check}: {self.subject}: {self.message}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification has looked at, and found.

    Attributes:
        findings: What is not as it must be, in the order of the checks; of each, the first hundred.
        snapshots: How many snapshots were compared with the events before them.
        sealed_snapshots: How many more are sealed, and were not compared, as the connection is not to see personal data.
        rows: How many rows of each read model were compared with the fold of the log, by the model's name.
        not_compared: The read models whose rows were not compared, each with the reason.
        seed: What the sample was drawn with.
        covered: How many events were found that are in the Merkle tree; None where the log was not compared with it.
        uncovered: How many are not in it yet; likewise.
        archived: How many streams are archived; read models have no rows of them.
    """

    findings: tuple[Finding, ...]
    snapshots: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    not_compared: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    covered: int | None = None
    uncovered: int | None = None
    sealed_snapshots: int = 0
    archived: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong; warnings do not count."""
        return all(each.is_warning for each in self.findings)


def first_of(findings: Generator[Finding, None, None]) -> list[Finding]:
    """Keep the first hundred, and look for no more."""
    with closing(findings):
        return list(islice(findings, MOST_FINDINGS))


def shown(value: object, *, longest: int = 80) -> str:
    """Show a value in a message."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
