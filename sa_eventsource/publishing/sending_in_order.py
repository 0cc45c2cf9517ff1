"""Many messages in flight, and no two of one stream: each stream's next message is sent when the one before is confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sa_eventsource.publishing.outcomes import Delayed, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.publishing.messages import Message
    from sa_eventsource.publishing.outcomes import Outcome
    from sa_eventsource.publishing.sender import Sender


async def send_in_order(sender: Sender, messages: Sequence[Message]) -> list[tuple[Message, Outcome]]:
    """Send messages, of each stream one after the other.

    What is not confirmed stops its stream. Where the broker cannot take messages now, no further ones are sent.

    Returns:
        The messages that were sent, each with what came of it.
    """
    streams: dict[tuple[str, str], list[Message]] = {}
    for message in reversed(messages):
        streams.setdefault(message.stream, []).append(message)
    found: list[tuple[Message, Outcome]] = []
    while streams:
        heads = [stream.pop() for stream in reversed(streams.values())]
        outcomes = await sender.send(heads)
        found += zip(heads, outcomes, strict=True)
        if any(isinstance(outcome, Delayed) for outcome in outcomes):
            break
        stopped = {message.stream for message, outcome in zip(heads, outcomes, strict=True) if isinstance(outcome, Refused)}
        streams = {name: left for name, left in streams.items() if left and name not in stopped}
    return found
