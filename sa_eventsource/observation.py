"""Reporting to whoever wants to know how long the library's operations take and how many events they are about."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from uuid import UUID

Operation: TypeAlias = Literal["append", "load", "catch_up", "rebuild"]


MOST_ORIGINS = 128
"""As many links as OpenTelemetry's SDK leaves a span by default."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the events of an operation come from.

    Attributes:
        traces: The contexts of the traces that they were stored with, as ``traceparent`` in their metadata has them, each once, and
            no more than a span can have links.
        correlation_id: The correlation id of them all; None where they have none, or several.
    """

    traces: Sequence[str] = ()
    correlation_id: UUID | None = None


def origin_of(events: Iterable[tuple[str | None, UUID | None]]) -> Origin:
    """Summarise the trace contexts and correlation ids of events.

    Args:
        events: Both of each event, equal pairs once or more often. Of more than ``MOST_ORIGINS`` that differ, a part is enough.
    """
    found = dict.fromkeys(events)
    correlated = {correlation_id for _, correlation_id in found}
    traces = list(dict.fromkeys(trace for trace, _ in found if trace))[:MOST_ORIGINS]
    return Origin(traces, correlated.pop() if len(correlated) == 1 and len(found) <= MOST_ORIGINS else None)


_UNKNOWN = Origin()


@dataclass(slots=True)
class Observation:
    """One operation, while it runs and when it has ended.

    Attributes:
        operation: Which it is.
        subject: The aggregate type, or the read model or subscription; empty where there are several.
        events: How many events it was about, known in the end.
        origin: Where these come from: known from the beginning of an append, and of what is caught up with as soon as it is found.
    """

    operation: Operation
    subject: str
    events: int = 0
    origin: Origin = _UNKNOWN


_observers: list[Callable[[Observation], AbstractContextManager[object]]] = []


def observe(observer: Callable[[Observation], AbstractContextManager[object]]) -> Callable[[], None]:
    """Have each operation run within what *observer* returns for it, until the function that this returns is called."""
    _observers.append(observer)
    return lambda: _observers.remove(observer)


def is_observed() -> bool:
    """Check whether there are observers; without any, nothing need be said."""
    return bool(_observers)


def observed(operation: Operation, subject: str, origin: Origin = _UNKNOWN) -> AbstractContextManager[Observation]:
    """Run an operation while the observers, if there are any, look on."""
    return _before_all(Observation(operation, subject, origin=origin)) if _observers else _UNOBSERVED


_UNOBSERVED = nullcontext(Observation("append", ""))
"""What everybody writes to and nobody reads."""


@contextmanager
def _before_all(observation: Observation) -> Iterator[Observation]:
    with ExitStack() as stack:
        for observer in _observers:
            stack.enter_context(observer(observation))
        yield observation
