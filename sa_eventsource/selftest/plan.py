"""What a run of the self-test does, drawn from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Role: TypeAlias = Literal["writer", "worker", "stranger"]
Ending: TypeAlias = Literal["commit", "rollback"]

_CREW: dict[Role, int] = {"writer": 3, "worker": 2, "stranger": 1}
_BETWEEN_KILLS = (0.4, 2.5)

_PLACES = 48
_SUBJECTS = 12
_LEVELS = (*["READ COMMITTED"] * 4, "REPEATABLE READ", "SERIALIZABLE")


@dataclass(frozen=True, slots=True)
class Kill:
    """A process is killed, and another takes its place.

    Attributes:
        after: Seconds for which all processes have been at work before: one that is started takes its time on a busy machine.
        actor: Its name.
    """

    after: float
    actor: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does.

    Attributes:
        seed: What all is drawn from.
        seconds: For how long.
        crew: The processes, by name, and what they do.
        kills: Which of them are killed, one after the other, if there is time for it.
    """

    seed: int
    seconds: float
    crew: dict[str, Role]
    kills: tuple[Kill, ...]

    @classmethod
    def draw(cls, seed: int, seconds: float) -> Plan:
        """Draw a plan: the same one for the same arguments."""
        crew: dict[str, Role] = {f"{role} {number + 1}": role for role, of_role in _CREW.items() for number in range(of_role)}
        chance = chance_of(seed, "kills")
        kills: list[Kill] = []
        victims: list[str] = []
        while sum(each.after for each in kills) < seconds:
            victims = victims or _one_of_each_role_first(chance, crew)
            kills.append(Kill(round(chance.uniform(*_BETWEEN_KILLS), 3), victims.pop(0)))
        return cls(seed, seconds, crew, tuple(kills))


def _one_of_each_role_first(chance: random.Random, crew: dict[str, Role]) -> list[str]:
    """Order the victims so that the first kills of a short run meet a writer, a worker and a stranger."""
    names = chance.sample(sorted(crew), len(crew))
    first = {crew[name]: name for name in reversed(names)}
    foremost = [first[role] for role in _CREW]
    return [*foremost, *(name for name in names if name not in foremost)]


def chance_of(seed: int, *names: object) -> random.Random:
    """Make what draws for one part of a run, whatever the other parts draw."""
    return random.Random("/".join(map(str, (seed, *names))))  # noqa: S311 - to be repeatable, not secret


@dataclass(frozen=True, slots=True)
class Entry:
    """One event to append.

    Attributes:
        subject: Which of the streams in use.
        amount: Below zero for a correction.
        place: The row over many streams that it belongs to.
    """

    subject: int
    amount: int
    place: int


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of work of a writer.

    Attributes:
        kind: Its name among :data:`KINDS`.
        entries: The events that it appends.
        level: The isolation level.
        hold: For how many seconds it stays open when all is written.
    """

    kind: Kind
    entries: tuple[Entry, ...]
    level: str
    hold: float = 0.0


Kind: TypeAlias = Literal["plain", "several flushes", "rolled back", "savepoint undone", "savepoint kept", "late", "read", "duel"]

_SHARES: dict[Kind, int] = {
    "plain": 6,
    "several flushes": 2,
    "rolled back": 2,
    "savepoint undone": 2,
    "savepoint kept": 1,
    "late": 1,
    "read": 1,
    "duel": 1,
}
KINDS: Sequence[Kind] = tuple(_SHARES)


class Units:
    """The units of work of one writer, without end: in each round every kind has its share."""

    def __init__(self, chance: random.Random) -> None:
        """Draw from *chance*."""
        self._chance = chance
        self._round: list[Kind] = []

    def draw(self) -> Unit:
        """Draw the next one."""
        chance = self._chance
        if not self._round:
            self._round = [kind for kind, share in _SHARES.items() for _ in range(share)]
            chance.shuffle(self._round)
        kind = self._round.pop()
        level = "READ COMMITTED" if kind in ("duel", "read") else chance.choice(_LEVELS)
        hold = chance.uniform(0.05, 0.25) if kind == "late" else 0.0
        size = 1 if kind in ("duel", "late") else chance.choice((1, 1, 2, 3))
        return Unit(kind, tuple(self._entry() for _ in range(size)), level, hold)

    def _entry(self) -> Entry:
        chance = self._chance
        # The streams are not drawn alike, so that some have more writers than others.
        subject = min(chance.randrange(_SUBJECTS), chance.randrange(_SUBJECTS))
        return Entry(subject, chance.randint(-50, 100), chance.randrange(_PLACES))
