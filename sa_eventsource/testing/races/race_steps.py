"""What actors do, as it is recorded and reported: steps, and how each actor ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sa_eventsource.testing.races.touched import Touched, Transaction

LETTERS = "ABCDEFGH"


class StepKind(Enum):
    """What a step does."""

    STATEMENT = "statement"
    COMMIT = "commit"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a schedule: what one actor did in its turn.

    Attributes:
        actor: The actor's letter.
        kind: A statement, a commit or a rollback.
        text: The SQL.
        parameters: Of the statement.
        waited_for: Letters of those whose locks it had to wait for; their later steps came before it was done.
        error: What the database answered, where it failed.
    """

    actor: str
    kind: StepKind
    text: str
    parameters: Any
    waited_for: str
    error: str | None


@dataclass(frozen=True, slots=True)
class ActorOutcome:
    """How one actor ended.

    Attributes:
        actor: Its letter.
        value: What it returned.
        error: What it raised; None if it returned.
        is_conflict: Whether that is an error by which the database or the library reports that another one wrote first.
    """

    actor: str
    value: Any
    error: BaseException | None
    is_conflict: bool

    @property
    def succeeded(self) -> bool:
        """Whether it returned."""
        return self.error is None


@dataclass(slots=True)
class Happening:
    """A step as the search sees it: with what it touched, and what it waited for.

    Attributes:
        actor: Number of the actor.
        ordinal: Number of the step among the actor's own.
        transaction: What it was a part of.
        before: What its transaction had touched before it.
        touched: What it has touched, or more.
        takes_snapshot: Whether later statements of its transaction see the database as it is now.
        waited_for: Numbers of the actors whose locks it waited for.
        released_by: Index of the step after which it waited no longer.
        is_opaque: Whether it is not known what it touched.
        is_deadlock: Whether PostgreSQL has just ended it as the victim of a deadlock.
    """

    actor: int
    ordinal: int
    kind: StepKind
    text: str
    parameters: Any
    transaction: Transaction
    before: Touched
    touched: Touched
    takes_snapshot: bool = False
    waited_for: frozenset[int] = frozenset()
    released_by: int | None = None
    is_opaque: bool = False
    is_deadlock: bool = False
    error: str | None = None

    @property
    def is_end(self) -> bool:
        """Whether it ends a transaction, and with it its locks."""
        return self.kind is not StepKind.STATEMENT

    def reported(self) -> Step:
        """Give what is reported of it."""
        waited_for = "".join(LETTERS[each] for each in sorted(self.waited_for))
        return Step(LETTERS[self.actor], self.kind, self.text, self.parameters, waited_for, self.error)
