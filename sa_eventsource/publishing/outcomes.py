"""What came of a message that was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sa_eventsource.application_errors import text_of


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker will not take a message, however often it is sent.

    Attributes:
        reason: What the broker says, or why the message cannot even be sent to it.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Delayed:
    """It is not known that the broker has a message, and so it is to be sent again.

    Attributes:
        reason: What stood in the way.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class InDoubt(Delayed):
    """The connection was closed while a message was in flight: perhaps for its sake, or for that of another one.

    Attributes:
        is_blamed: Whether the broker says that it is for something that it was sent, so that a message which was alone is the one.
    """

    is_blamed: bool = False


Outcome: TypeAlias = Refused | Delayed | None
"""What came of a message; None where the broker has confirmed it."""


def described(error: BaseException) -> str:
    """Say in one line what went wrong."""
    name, text = type(error).__name__, text_of(error)
    return " ".join((text if text.startswith(name) else f"{name}: {text}").split()).rstrip(": ")
