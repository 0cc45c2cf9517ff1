"""The steps between an event and the payload that the log holds.

======================  ===================================================  ================================================
step                    on the way to the log                                on the way back
======================  ===================================================  ================================================
write                   Pydantic writes the event as JSON text
validate                the text is proven, or seen, to come back exactly    text becomes an event of its present class
upcast                                                                       a payload of an older version becomes the present
those that join         the text is changed                                  the change is undone
======================  ===================================================  ================================================

They are taken downwards on the way to the log and upwards on the way back. For each class of events, and for each stored type and
version, only those steps are kept that have something to do, so that one which does not concern it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sa_eventsource.events import event_types

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sa_eventsource.events.domain_event import DomainEvent

ToLog: TypeAlias = Callable[["DomainEvent", str], str]
"""Gets the event, and the text so far; returns the text."""

FromLog: TypeAlias = Callable[[Any], Any]
"""Gets the text, or what the step before made of it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: What it is called; a step that joins under a name that is there replaces it.
        to_log: Makes the function for a class of events, or returns None where there is nothing to do.
        from_log: Makes the function for a stored type and version, or returns None.
    """

    name: str
    to_log: Callable[[type[DomainEvent]], ToLog | None]
    from_log: Callable[[str, int], FromLog | None]


class Steps:
    """The steps in their order, and what they come to for each class and stored type."""

    def __init__(self, steps: Iterable[Step]) -> None:
        """Begin with some steps; whatever was made of them is dropped when event classes or upcasters change."""
        self._steps = {each.name: each for each in steps}
        self._writers: dict[type[DomainEvent], tuple[ToLog, ...]] = {}
        self._readers: dict[tuple[str, int], FromLog] = {}
        event_types.on_change(self._forget)

    def join(self, step: Step) -> None:
        """Add a step: the last on the way to the log, the first on the way back."""
        self._steps = {**self._steps, step.name: step}
        self._forget()

    def leave(self, name: str) -> None:
        """Take a step out again."""
        self._steps = {other: step for other, step in self._steps.items() if other != name}
        self._forget()

    def names(self) -> list[str]:
        """The steps in the order that they are taken on the way to the log."""
        return list(self._steps)

    def write(self, event: DomainEvent) -> str:
        """Write an event's payload as JSON text.

        Raises:
            EventPayloadError: It holds a value that would not survive.
            DeclarationError: Its class is none that the event could be read as, or an upcaster would never run.
        """
        writers = self._writers
        try:
            functions = writers[type(event)]
        except KeyError:
            made = (each.to_log(type(event)) for each in self._steps.values())
            functions = writers[type(event)] = tuple(each for each in made if each is not None)
        text = ""
        for each in functions:
            text = each(event, text)
        return text

    def reader(self, event_type: str, event_version: int) -> FromLog:
        """Get the function that reads payloads of one stored type and version.

        It raises Pydantic's ``ValidationError`` for payloads that do not fit; :func:`~sa_eventsource.events.codec.decode` says it
        better.

        Raises:
            UnknownEventTypeError: No class declares the type.
            DeclarationError: It has an upcaster that would never run.
        """
        readers = self._readers
        try:
            return readers[event_type, event_version]
        except KeyError:
            functions = (each.from_log(event_type, event_version) for each in reversed(self._steps.values()))
            found = readers[event_type, event_version] = _read(*(each for each in functions if each is not None))
            return found

    def _forget(self) -> None:
        # Not emptied: a thread that made a function before the change would then keep it after. It keeps it in what is left here.
        self._writers, self._readers = {}, {}


def _read(*functions: FromLog) -> FromLog:
    if len(functions) == 1:
        return functions[0]

    def read(payload: Any) -> Any:
        for each in functions:
            payload = each(payload)
        return payload

    return read
