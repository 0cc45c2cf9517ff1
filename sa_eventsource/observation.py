"""Reporting to whoever wants to know how long the library's operations take and how many events they are about."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Operation: TypeAlias = Literal["append", "load", "catch_up", "rebuild"]


@dataclass(slots=True)
class Observation:
    """One operation, while it runs and when it has ended.

    Attributes:
        operation: Which it is.
        subject: The aggregate type, or the read model or subscription; empty where there are several.
        events: How many events it was about, known in the end.
    """

    operation: Operation
    subject: str
    events: int = 0


_observers: list[Callable[[Observation], AbstractContextManager[object]]] = []


def observe(observer: Callable[[Observation], AbstractContextManager[object]]) -> Callable[[], None]:
    """Have each operation run within what *observer* returns for it, until the function that this returns is called."""
    _observers.append(observer)
    return lambda: _observers.remove(observer)


def is_observed() -> bool:
    """Check whether there are observers; without any, nothing need be said."""
    return bool(_observers)


def observed(operation: Operation, subject: str) -> AbstractContextManager[Observation]:
    """Run an operation before the eyes of the observers, if there are any."""
    return _before_all(Observation(operation, subject)) if _observers else _UNOBSERVED


_UNOBSERVED = nullcontext(Observation("append", ""))
"""What everybody writes to and nobody reads."""


@contextmanager
def _before_all(observation: Observation) -> Iterator[Observation]:
    with ExitStack() as stack:
        for observer in _observers:
            stack.enter_context(observer(observation))
        yield observation
