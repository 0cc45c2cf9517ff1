"""Which message made the broker close the connection, where several were in flight.

A broker that is sent what its protocol has no place for closes the connection. If that message were only sent again and again, with
all others, nothing would be published any more. So those that were in flight are sent one by one, and one that takes the connection
along when it is alone is refused.

At once, where the broker says that it is for what it was sent. Where it says nothing, it may as well have been restarted, or crash
whatever it is sent. Then a message is refused only after it has done so a few times, each with a connection that was whole
immediately before, and if another one has been confirmed meanwhile.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sa_eventsource.publishing.outcomes import Delayed, InDoubt, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from sa_eventsource.publishing.messages import Message
    from sa_eventsource.publishing.outcomes import Outcome

_ENOUGH = 3
"""How often a message takes the connection along, alone, until it is refused though the broker does not say why."""

SendTogether: TypeAlias = "Callable[[Sequence[Message]], Awaitable[Sequence[Outcome]]]"
SendAlone: TypeAlias = "Callable[[Message], Awaitable[Outcome]]"
"""Makes sure that the connection is whole before."""


@dataclass(slots=True)
class _Suspect:
    """A message that was in flight when a connection was closed.

    Attributes:
        confirmed_before: How many messages had been confirmed by then.
        lost_alone: How often it has taken the connection along since, alone.
    """

    confirmed_before: int
    lost_alone: int = 0


class Suspects:
    """The messages that were in flight when a connection was closed, until each has been sent alone."""

    def __init__(self) -> None:
        """Suspect none."""
        self._suspects: dict[UUID, _Suspect] = {}
        self._confirmed = 0
        self._one_by_one = asyncio.Lock()

    async def send(self, messages: Sequence[Message], together: SendTogether, alone: SendAlone) -> Sequence[Outcome]:
        """Send messages together, or one by one where one of them may have closed the connection."""
        if any(message.event_id in self._suspects for message in messages):
            return await self._send_one_by_one(messages, [InDoubt("it is to be sent alone")] * len(messages), alone)
        outcomes = await together(messages)
        lost = [message for message, outcome in zip(messages, outcomes, strict=True) if isinstance(outcome, InDoubt)]
        self._confirmed += sum(outcome is None for outcome in outcomes)
        if not lost:
            return outcomes
        # Beside those of other parts of the publisher, whose connection this is too.
        self._suspects |= {message.event_id: _Suspect(self._confirmed) for message in lost}
        return await self._send_one_by_one(messages, outcomes, alone)

    async def _send_one_by_one(
        self, messages: Sequence[Message], outcomes: Sequence[Outcome], alone: SendAlone
    ) -> Sequence[Outcome]:
        """Send those that are in doubt, the least suspect first, until one of them has to wait."""
        found = list(outcomes)
        async with self._one_by_one:
            for index in sorted(range(len(messages)), key=lambda index: self._times_lost(messages[index])):
                if isinstance(found[index], InDoubt):
                    outcome = self._verdict(messages[index], await alone(messages[index]))
                    if isinstance(outcome, Delayed):
                        return [outcome if isinstance(each, InDoubt) else each for each in found]
                    found[index] = outcome
        return found

    def _times_lost(self, message: Message) -> int:
        suspect = self._suspects.get(message.event_id)
        return 0 if suspect is None else suspect.lost_alone

    def _verdict(self, message: Message, outcome: Outcome) -> Outcome:
        """Say what came of a message that was sent alone, and whether it is suspect any longer."""
        if isinstance(outcome, InDoubt):
            suspect = self._suspects.setdefault(message.event_id, _Suspect(self._confirmed))
            suspect.lost_alone += 1
            if outcome.is_blamed:
                outcome = Refused(outcome.reason)
            elif suspect.lost_alone >= _ENOUGH and self._confirmed > suspect.confirmed_before:
                outcome = Refused(f"whenever it is sent, and it alone, {outcome.reason}")
        if not isinstance(outcome, Delayed):
            self._suspects.pop(message.event_id, None)
            self._confirmed += outcome is None
        return outcome
