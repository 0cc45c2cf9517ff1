"""Code of an application that follows the log by itself: it asks for the next events when it likes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sa_eventsource.consumers.consumer import check_name
from sa_eventsource.consumers.declared_consumers import consumers_on
from sa_eventsource.consumers.subscription import Subscription
from sa_eventsource.exceptions import DeclarationError
from sa_eventsource.store import of_types, stored_names

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, FromClause

    from sa_eventsource.events import DomainEvent, RecordedEvent

READER = "reader"
"""The fingerprint of every reader: what it has read cannot be read again."""


@dataclass(eq=False, kw_only=True)
class Reader(Subscription):
    """A subscription without a function. Nothing declares it: its checkpoint says that it is there.

    Attributes:
        event_types: The classes that are asked for, with those that inherit from them; None for all, and where nobody asks.
    """

    event_types: tuple[type[DomainEvent], ...] | None = None

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            DeclarationError: It is impossible, or that of a read model or a subscription.
        """
        check_name("follow()", self.name)
        if self.name in self.tables.read_models or any(each.name == self.name for each in consumers_on(self.tables)):
            raise self.changed()

    def of_types(self, events: FromClause) -> list[ColumnElement[bool]]:
        """Write the condition that events are of the types that are asked for; none where all are."""
        return [] if self.event_types is None else [of_types(events, "follow", self.event_types)]

    def takes(self, recorded: RecordedEvent[Any]) -> bool:
        """Check whether an event is of a type that is asked for: one that others were stored with may not be."""
        return self.event_types is None or type(recorded.event).__event_type__ in stored_names("follow", self.event_types)

    @property
    def bind_arguments(self) -> dict[str, Any]:
        """The log chooses among several binds of a session."""
        return {"clause": self.tables.events} if self.mapper is None else {"mapper": self.mapper}

    @property
    def fingerprint(self) -> str:
        """The same for all."""
        return READER

    def changed(self) -> DeclarationError:
        """Say that its name is another's."""
        return DeclarationError(f"follow({self.name!r}): a read model or a subscription has that name; choose another")
