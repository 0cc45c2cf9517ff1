"""A stream replayed: what each event changed, as digests, and whole states where they are to be shown.

Two replays of 10,000 events are compared by digests, which are small; values are kept for the few versions that a page shows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence  # noqa: TC003 - Pydantic reads them
from dataclasses import dataclass
from hashlib import blake2b
from sys import getsizeof
from typing import TYPE_CHECKING

from sa_eventsource.application_errors import text_of, traceback_of
from sa_eventsource.events import Parts, decode
from sa_eventsource.exceptions import EventSourceError
from sa_eventsource.replays.applied_code import Applied, applied_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sa_eventsource.event_log import History

LONGEST_VALUE = 5_000
"""How many characters of a value are kept, of its JSON text."""


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """What one event made of the state.

    Attributes:
        version: The version after it; 0 for the state before the first event.
        digests: Digests of the fields that it changed; None for one that has no value any more.
        state: The state after it, JSON texts by the name of the field, long ones cut; None where it is not to be shown.
        applied: The methods that applied it, where it is to be shown.
    """

    version: int
    digests: Mapping[str, str | None]
    state: Mapping[str, str] | None = None
    applied: Sequence[Applied] = ()

    @property
    def size(self) -> int:
        """How many bytes of memory it takes, about."""
        texts = (*self.digests.values(), *(self.state or {}).values(), *(each.code for each in self.applied))
        return getsizeof(self) + getsizeof(self.version) + getsizeof(self.digests) + sum(map(getsizeof, texts))


@dataclass(frozen=True, slots=True)
class Replay:
    """A stream as some code replays it.

    Attributes:
        fields: The state fields of the class, in the order of their declaration.
        steps: The steps, from version 0 on, as far as it came.
        error: Why it came no further; None where it has come to the end.
        traceback: Where that was raised; None where nothing was.
        origin: What code it was: a commit, a folder, a file; empty for that of this process.
    """

    fields: Sequence[str]
    steps: Sequence[ReplayedStep]
    error: str | None = None
    traceback: str | None = None
    origin: str = ""

    @property
    def size(self) -> int:
        """How many bytes of memory it takes, about."""
        return sum(each.size for each in self.steps) + getsizeof(self.error) + getsizeof(self.traceback)

    def at(self, version: int) -> ReplayedStep | None:
        """Get the step to a version; None where it did not come so far."""
        return self.steps[version] if version < len(self.steps) else None


def replay_here(history: History, shown: range, *, seconds: float) -> Replay:
    """Replay a stream by the code of this process.

    Args:
        history: The stream, from its first event on.
        shown: The versions whose states are kept.
        seconds: After how long it stops, between two events.
    """
    ends = time.monotonic() + seconds
    steps: list[ReplayedStep] = []
    fields = history.fields
    try:
        for step in replayed_steps(history, shown):
            steps.append(step)
            if time.monotonic() > ends:
                return Replay(fields, steps, out_of_time(seconds))
    except Exception as error:  # noqa: BLE001 - methods of the application's own may raise anything
        return Replay(fields, steps, said_of(error), traceback_of(error))
    return Replay(fields, steps)


def replayed_steps(history: History, shown: range) -> Iterator[ReplayedStep]:
    """Replay a stream step by step, the state before the first event included.

    Raises:
        Exception: Whatever an event's decoding or an ``@applies`` method raises.
    """
    payloads = iter(history.payloads)
    is_first = True
    for row, changes in history.steps():
        if is_first:
            is_first = False
            before = {name: changes[name].before if name in changes else history.state.get(name) for name in history.fields}
            known = {name: text for name, text in before.items() if text is not None}
            yield ReplayedStep(0, {name: _digest(text) for name, text in known.items()}, _cut(known) if 0 in shown else None)
        payload = next(payloads)
        digests = {name: None if change.after is None else _digest(change.after) for name, change in changes.items()}
        if row.version not in shown:
            yield ReplayedStep(row.version, digests)
            continue
        decoded = decode(row.event_type, row.event_version, payload, event_id=row.event_id)
        events = decoded if isinstance(decoded, Parts) else (decoded,)
        applied = [found for each in events if (found := applied_by(history.definition, each)) is not None]
        yield ReplayedStep(row.version, digests, _cut(history.state), applied)


def said_of(error: BaseException) -> str:
    """Say what was raised; with its type, unless it says enough by itself."""
    text = text_of(error)
    return text if isinstance(error, EventSourceError) else f"{type(error).__name__}: {text}" if text else type(error).__name__


def out_of_time(seconds: float) -> str:
    """Say that a replay took too long."""
    return f"It was ended after {seconds:g} s."


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _cut(state: Mapping[str, str]) -> dict[str, str]:
    return {name: text[:LONGEST_VALUE] for name, text in state.items()}
