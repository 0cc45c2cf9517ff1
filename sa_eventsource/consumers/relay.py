"""Relays: subscriptions that hand events over to another system, many at a time, and are told of each whether it has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from sa_eventsource.consumers.subscription import Subscription
from sa_eventsource.events import DomainEvent, members
from sa_eventsource.store import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from uuid import UUID

    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.exceptions import DeliveryDelayedError, SubscriptionError

Progress: TypeAlias = "tuple[str | None, str | None, int]"
"""How far a checkpoint has come: see ``Checkpoint.progress``."""
Place: TypeAlias = "tuple[str, str | None]"
"""Where a checkpoint is kept: a follower's name, and the tenant whose the session is, if it is one's."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of events that were handed over together.

    Where an event was not taken, no later one of its stream was handed over.

    Attributes:
        taken: The ids of those that the other system has confirmed.
        refused: What the other system says of those that it will never take, by their ids.
        delayed: Why the others have to wait; None where there are none, except for those behind a refused one.
    """

    taken: AbstractSet[UUID]
    refused: Mapping[UUID, SubscriptionError] = field(default_factory=dict)
    delayed: DeliveryDelayedError | None = None


@dataclass(eq=False, kw_only=True)
class Relay(Subscription):
    """A subscription that hands events over, many at a time.

    Which events the other system has confirmed is remembered with the checkpoint: those that come after one that has to wait, and
    those of a transaction that could not be committed. They are not handed over again, unless the process ends.

    Attributes:
        event_types: The event classes that it takes, with those that inherit from them.
        destination: Where they are handed to, in words.
        in_clear: Whether personal data is handed over, and not its placeholders.
        deliver: Hands events over, given in the order of their positions, with the tenant whose they are, where tenants share the
            log, and waits for what comes of it.
    """

    event_types: tuple[type[DomainEvent], ...]
    deliver: Callable[[Sequence[RecordedEvent[Any]], str | None], Delivery]
    in_clear: bool = False
    destination: str = ""
    _confirmed: dict[Place, dict[Progress, AbstractSet[UUID]]] = field(default_factory=dict, init=False)

    def declared_classes(self) -> Mapping[str, type[DomainEvent]]:
        """All of them: there is no handler."""
        return {each.__event_type__: each for each in members(self.event_types)}

    @property
    def personal_data(self) -> Reading:
        """Placeholders, unless it is to be handed over in clear."""
        return Reading.CLEAR if self.in_clear else Reading.MASKED

    @property
    def first_batch_size(self) -> int:
        """Events are taken one by one, however many are handed over: nothing is repeated if the first one fails."""
        return min(100, self.events_at_a_time)

    def confirmed(self, place: Place, progress: Progress) -> AbstractSet[UUID]:
        """Get the events that the other system has beyond what a checkpoint says, as far as this process knows."""
        return self._confirmed.get(place, {}).get(progress, frozenset())

    def confirm(self, place: Place, events: Mapping[Progress, AbstractSet[UUID]]) -> None:
        """Remember what the other system has beyond the checkpoint, for each place where the checkpoint may be from now on."""
        self._confirmed[place] = {progress: ids for progress, ids in events.items() if ids}

    def committed(self, place: Place, progress: Progress) -> None:
        """Forget what was remembered for a place that the checkpoint has left: sent back to it, events are handed over again."""
        self._confirmed.get(place, {}).pop(progress, None)
