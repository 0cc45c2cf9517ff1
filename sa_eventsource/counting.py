"""How many there are of something, in a sentence: "1 event", "2 events"."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write a number and what it counts.

    Example: ``counted(done, "event")``, ``counted(parked, "command is", "commands are")``

    Args:
        number: How many.
        one: What follows 1.
        many: What follows any other number; None for the same with an s.
    """
    return f"{number} {one if number == 1 else many or f'{one}s'}"
