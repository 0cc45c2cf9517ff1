"""Whether actors do the same whenever they have seen the same.

The search leaves out orders that an actor cannot tell from one that was run. That holds for actors that decide by what the database
tells them. One that decides by a random number, the clock, or what it remembers from an earlier run, does something else in a run
that should have been the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sa_eventsource.testing.races.reordering import Decision

_VALUES = re.compile(r"%\(\w+\)s|%s|\$\d+|'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")
_REPEATED = re.compile(r"(\(?\?(?:::[\w\" ]+)?(?:, \?(?:::[\w\" ]+)?)*\)?)(?:, \1)+")


class Steadiness:
    """What actors did, by all that each could have seen until then.

    Attributes:
        is_given: Whether none has done two different things after the same.
    """

    def __init__(self) -> None:
        """Begin with no run."""
        self.is_given = True
        self._done: dict[object, str] = {}

    def add(self, decisions: Iterable[Decision]) -> None:
        """Hold a run against those before it."""
        for each in decisions:
            done = _without_values(each.text)
            if self._done.setdefault((each.actor, each.past), done) != done:
                self.is_given = False


def _without_values(text: str) -> str:
    """Leave out of a statement what differs from run to run: its values, and how many there are in a list."""
    return _REPEATED.sub(r"\1", _VALUES.sub("?", text))
