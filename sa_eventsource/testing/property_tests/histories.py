"""``events_of()`` and ``histories_of()``: what may happen to an aggregate."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from sa_eventsource.aggregates import AggregateRoot, books_of, definition_of
from sa_eventsource.clock import frozen_at
from sa_eventsource.events import family, is_event
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.testing.acting import FIRST_IDS
from sa_eventsource.testing.freezing import NOON
from sa_eventsource.testing.property_tests.command_calls import REFUSALS, Called, methods_of
from sa_eventsource.testing.property_tests.drawn_values import instances_of
from sa_eventsource.testing.recording import MemoryLog
from sa_eventsource.time_ordered_ids import ids_made_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sa_eventsource.events import DomainEvent, RecordedEvent

_STEPS = 8
_STREAMS = 3
_LONGEST_PAUSE = timedelta(days=40)


def event_classes_of(aggregate_class: type[Any]) -> list[type[DomainEvent]]:
    """List the events that an aggregate takes: those of its ``@applies`` methods, of what inherits from them, and ignored ones."""
    taken = definition_of(aggregate_class).handlers.functions()
    found = dict.fromkeys(member for each in taken for member in (*([each] if is_event(each) else ()), *family(each)))
    return sorted(found, key=lambda each: each.__event_type__)


def events_of(
    aggregate_class: type[AggregateRoot[Any]], events: Mapping[type[DomainEvent], st.SearchStrategy[Any]] | None = None
) -> st.SearchStrategy[DomainEvent]:
    """Draw any one event of an aggregate: of each class that it has a method for, with any values that its schema allows.

    Times have a zone, numbers are those that JSON has, and texts hold no NUL: others could not be stored.

    Args:
        aggregate_class: The aggregate.
        events: Strategies for the events of some classes, in place of those made from their schemas.

    Raises:
        DeclarationError: *aggregate_class* is no mapped aggregate, or takes no events.
    """
    given = events or {}
    classes = event_classes_of(aggregate_class)
    if not classes:
        raise DeclarationError(f"{aggregate_class.__name__} takes no events; write a method with @applies")
    return st.one_of(*(given[each] if each in given else instances_of(each) for each in classes))


def histories_of(
    aggregate_class: type[AggregateRoot[Any]],
    *,
    commands: Iterable[Any],
    refusals: type[Exception] | tuple[type[Exception], ...] = REFUSALS,
    max_steps: int = _STEPS,
    max_streams: int = _STREAMS,
) -> st.SearchStrategy[list[RecordedEvent[Any]]]:
    """Draw what may have happened to some aggregates of a class: recorded events, in the order of the log.

    They are those that commands lead to; one that a rule refuses leaves nothing. Time passes between them, and what happens to one
    aggregate happens between what happens to others.

    Args:
        aggregate_class: The aggregate.
        commands: Its methods that record events, and classmethods that make an aggregate. As for :func:`aggregate_laws`.
        refusals: What commands raise where a rule refuses them.
        max_steps: How many commands there are at most.
        max_streams: How many aggregates there are at most.

    Raises:
        DeclarationError: *aggregate_class* is no mapped aggregate, or there are no commands.
        TypeError: A command is none.
    """
    made = methods_of(aggregate_class, commands)
    return _histories(aggregate_class, made, refusals, max_steps, max_streams)


@st.composite
def _histories(  # noqa: PLR0913, PLR0917 - private
    draw: st.DrawFn,
    aggregate_class: type[Any],
    commands: list[Called],
    refusals: type[Exception] | tuple[type[Exception], ...],
    max_steps: int,
    max_streams: int,
) -> list[RecordedEvent[Any]]:
    log, present = MemoryLog(), _Present(aggregate_class, max_streams)
    moment = NOON
    creators = [each for each in commands if each.makes_aggregate]
    methods = [each for each in commands if not each.makes_aggregate]
    for _ in range(draw(st.integers(0, max_steps))):
        moment += draw(st.timedeltas(timedelta(0), _LONGEST_PAUSE))
        begins = not present.ids or (present.has_room and draw(st.booleans()))
        with frozen_at(moment), ids_made_by(log.ids.at(moment)):
            if begins and creators:
                command = draw(st.sampled_from(creators))
                aggregate = _call(command, None, draw, refusals)
            else:
                acting = present.begin() if begins else present.load(draw(st.sampled_from(present.ids)), log)
                aggregate = _call(draw(st.sampled_from(methods)), acting, draw, refusals) if methods else None
        if aggregate is not None:
            present.keep(aggregate, log)
    return log.events


def _call(command: Called, aggregate: Any, draw: st.DrawFn, refusals: type[Exception] | tuple[type[Exception], ...]) -> Any:
    """Call a command; give the aggregate that it makes or changes, or None where a rule refuses it."""
    arguments = {name: draw(strategy) for name, strategy in command.arguments.items()}
    with suppress(*(refusals if isinstance(refusals, tuple) else (refusals,))):
        if command.makes_aggregate:
            return command.function(**arguments)
        command.function(aggregate, **arguments)
        return aggregate
    return None


class _Present:
    """The aggregates that there are, as the log has them."""

    def __init__(self, aggregate_class: type[Any], most: int) -> None:
        self.ids: list[str] = []
        self._class = aggregate_class
        self._most = most

    @property
    def has_room(self) -> bool:
        return len(self.ids) < self._most

    def begin(self) -> Any:
        """Make one that has no events yet."""
        definition, number = definition_of(self._class), str(len(self.ids) + 1)
        return self._class(id=definition.typed_id(FIRST_IDS[definition.id_type][: -len(number)] + number))

    def load(self, text_id: str, log: MemoryLog) -> Any:
        """Get one as a session would load it."""
        return log.load(self._class, text_id)

    def keep(self, aggregate: Any, log: MemoryLog) -> None:
        """Record what was applied."""
        definition, pending = definition_of(self._class), books_of(aggregate).pending
        text_id = definition.text_id(vars(aggregate)["id"])
        for each in pending:
            log.record((definition.aggregate_type, text_id), each.event, each.occurred_at, event_id=each.event_id)
        if pending and text_id not in self.ids:
            self.ids.append(text_id)
