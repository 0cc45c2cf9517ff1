"""``@evolves``: methods of a read model that change one row for one event, and see nothing else."""

from __future__ import annotations

import enum
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.plain_functions import check_plain
from sa_eventsource.read_models.marked_methods import MarkedMethod, mark, marked_methods

if TYPE_CHECKING:
    from collections.abc import Callable

    from sa_eventsource.events import DomainEvent, RecordedEvent


class Evolution(enum.Enum):
    """What an ``@evolves`` method may return instead of None."""

    REMOVED = "removed"


REMOVED: Final = Evolution.REMOVED
"""Returned by an ``@evolves`` method: the row is removed; one that the event would have begun is not made."""

Evolved: TypeAlias = Literal[Evolution.REMOVED] | None
"""What an ``@evolves`` method returns: :data:`REMOVED`, or None for a row that stays."""

EvolveFunction: TypeAlias = "Callable[[Any, RecordedEvent[Any]], Evolved]"

HOW_TO_EVOLVE = "Write a plain one, which changes the row that it is given, and returns None or REMOVED."

F = TypeVar("F", bound="Callable[[Any, Any], Evolved]")

_DECORATOR = "evolves"


def evolves(*event_types: type[DomainEvent]) -> Callable[[F], F]:
    """Mark a method of a read model that changes a row for events of the given types, and of those that inherit from them.

    It is to rows what ``@applies`` is to aggregates: an ordinary method, whose ``self`` is the row that the event's key identifies,
    with its columns' defaults if the event begins it. Its argument is the event, together with all that the log knows of it. ::

        class OrderSummary(ReadModel, Base):
            id: Mapped[str]
            total: Mapped[Decimal] = mapped_column(default=Decimal(0))
            is_large: Mapped[bool] = mapped_column(default=False)

            @evolves(ItemAdded)
            def add(self, recorded: RecordedEvent[ItemAdded]) -> None:
                self.total += recorded.event.price
                self.is_large = self.total >= 1000

    It must depend on the row and the event alone: no session, no clock, no random number, nothing that is changed elsewhere. One
    statement locks and reads the rows of a batch of events, then the method is called for each event, then one statement writes the
    rows. It may be called again for the same event: where another transaction has made the row meanwhile, what was worked out is
    thrown away. The row is in no session. ``self.version`` counts this event already: it is 1 in a row that has just begun. Return
    :data:`~sa_eventsource.read_models.REMOVED` to have the row removed.

    Events of one stream come in order. Where several streams share a row, their events come in the order in which they were
    committed, as far as they come together by position: let the method come to the same in any order.

    Args:
        *event_types: One or more event classes.

    Raises:
        DeclarationError: There is none, or one is not a ``DomainEvent`` class.
    """
    return mark(_DECORATOR, event_types)


def evolve_methods(model: type[Any]) -> dict[type[DomainEvent], EvolveFunction]:
    """Find the ``@evolves`` methods of a class and its bases by the event class that they are marked with.

    Raises:
        DeclarationError: Two methods claim one event, or one is no plain method that takes an event.
    """
    return {event: _checked(model, event, each) for event, each in marked_methods(model, _DECORATOR).items()}


def _checked(model: type[Any], event_class: type[DomainEvent], method: MarkedMethod) -> EvolveFunction:
    where = f"{model.__name__}.{method.name}"
    if isinstance(method.member, classmethod | staticmethod) or not _takes_row_and_event(method.function):
        raise DeclarationError(
            f"{where} is called with the row and the event, and no session; write\n"
            f"    @evolves(...)\n    def {method.name}(self, recorded): ...\n"
            "What needs the session, or several rows, is for @handles."
        )
    check_plain(f"{where}, which @evolves {event_class.__name__},", method.function, HOW_TO_EVOLVE)
    return method.function


def _takes_row_and_event(function: Callable[..., Any]) -> bool:
    try:
        signature(function).bind(None, None)
    except TypeError:
        return False
    return True
