"""The subscriptions that an application has declared: each name once in a process."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from sa_eventsource.consumers.consumer import check_name
from sa_eventsource.consumers.event_owners import owners_of
from sa_eventsource.consumers.start import check_place
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.mapping import find_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.consumers.subscription import Subscription
    from sa_eventsource.events import DomainEvent
    from sa_eventsource.mapping import EventSourceTables

_DECLARE_ONCE = (
    "Declare it once, where its module is imported, or give each a name of its own (a process manager: an __aggregate_type__)."
)


class NamedSubscription(Protocol):
    """What is declared under a name, before it is known which log it follows."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that its progress is kept under."""

    @property
    @abstractmethod
    def event_types(self) -> Sequence[type[DomainEvent]]:
        """The event classes that it takes, with those that inherit from them."""

    @property
    @abstractmethod
    def base(self) -> Any:
        """The declarative base of the log; None for the one whose aggregates have the events."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where in the application's code it is declared."""

    @abstractmethod
    def stands_in_for(self, other: NamedSubscription) -> bool:
        """Check whether this is the declaration that *other* was, made once more, as by ``importlib.reload()``."""

    @abstractmethod
    def on_log(self, tables: EventSourceTables, owner: type[Any]) -> Subscription:
        """Make the subscription to a log.

        Args:
            tables: The tables of the log.
            owner: An aggregate of the log whose events it takes.
        """


_declared: dict[str, NamedSubscription] = {}


def check_subscription(name: str, start: object, batch_size: object) -> None:
    """Check what all declarations have.

    Raises:
        DeclarationError: The name is impossible, or an option makes no sense.
    """
    check_name("subscription", name)
    try:
        check_place("start", start, words=("beginning", "now"))
    except (TypeError, ValueError) as error:
        raise DeclarationError(f"subscription {name!r}: {error}") from None
    if not isinstance(batch_size, int) or batch_size < 1:
        raise DeclarationError(f"subscription {name!r}: batch_size is {batch_size!r}; it must be 1 or more")


def declare(declared: NamedSubscription) -> None:
    """Make a declaration known, to whatever follows the log that it is for.

    Raises:
        DeclarationError: The name is taken by another declaration.
    """
    other = _declared.get(declared.name, declared)
    if other is not declared and not declared.stands_in_for(other):
        places = f"by {other.place} and by {declared.place}" if other.place != declared.place else f"within {declared.place}"
        raise DeclarationError(f"subscription {declared.name!r} is declared twice: {places}. {_DECLARE_ONCE}")
    _declared[declared.name] = declared


def subscriptions_on(tables: EventSourceTables) -> list[Subscription]:
    """List the subscriptions that follow a log, by name.

    Raises:
        DeclarationError: One has the name of a read model.
    """
    found = []
    for _, declared in sorted(_declared.items()):
        owners = owners_of(tables, declared.event_types)
        if not owners and declared.base in tables.aggregate_classes.values():  # whose events a process hears of nobody has imported
            owners = [declared.base]
        if owners and (declared.base is None or find_tables(declared.base.metadata) is tables):
            found.append(declared.on_log(tables, owners[0]))
    return found
