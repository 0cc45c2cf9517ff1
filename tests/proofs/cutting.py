"""Processes that come to a chosen point of their work and stop there, to be killed: by progress, not by the clock.

Points are what a process does on its connections: before and after each statement, before each COMMIT, when a COMMIT is on its way
and nobody has read the answer, and what the process itself says it has come to.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Self

from sqlalchemy import Engine, event

from tests.processes import end, fork, pipe

PATIENCE = 60
"""Seconds after which a process that has come to nothing is a failure."""


@dataclass(frozen=True)
class Cut:
    """Where to stop: at the *number*-th time that the process comes to this kind of point, or to any but ``COMMIT sent``."""

    number: int
    kind: str | None = None


class Points:
    """Counts the points of a process, in that process."""

    def __init__(self, channel: Connection, cuts: tuple[Cut, ...]) -> None:
        """Stop at each of the cuts in turn, counted from the one before; tell the channel."""
        self._channel = channel
        self._cuts = list(cuts)
        self._count = 0

    def say(self, what: str, *about: Any) -> None:
        """Tell the parent at once."""
        self._channel.send((what, *about))

    def watch(self, engine: Engine) -> None:
        """Count what the engine's connections do."""
        event.listen(engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: self.reach(f"before {_verb(statement)}"))
        event.listen(engine, "after_cursor_execute", lambda _c, _cursor, statement, *_: self.reach(f"after {_verb(statement)}"))
        event.listen(engine, "commit", self._committing)

    def _committing(self, connection: Any) -> None:
        self.reach("before COMMIT")
        if self._is_at("COMMIT sent"):
            raw = connection.connection.driver_connection.pgconn
            raw.send_query(b"COMMIT")
            raw.flush()
            self._stop("COMMIT sent")

    def reach(self, kind: str) -> None:
        """Come to a point; stop there if it is the one."""
        if self._is_at(kind):
            self._stop(kind)

    def _is_at(self, kind: str) -> bool:
        if not self._cuts or self._cuts[0].kind not in ((kind,) if kind == "COMMIT sent" else (kind, None)):
            return False
        self._count += 1
        return self._count == self._cuts[0].number

    def _stop(self, kind: str) -> None:
        del self._cuts[0]
        self._count = 0
        self.say("at", kind)
        self._channel.recv()  # until told to go on; a process whose parent is gone ends here


def _run(function: Callable[..., None], channel: Connection, cuts: tuple[Cut, ...], arguments: tuple[Any, ...]) -> None:
    points = Points(channel, cuts)
    try:
        function(points, *arguments)
    except Exception:
        points.say("failed", traceback.format_exc())
    else:
        points.say("done")


def _verb(statement: str) -> str:
    return statement.split(maxsplit=1)[0].upper()


class Child:
    """A process and what it has said."""

    def __init__(self, function: Callable[..., None], *arguments: Any, cuts: tuple[Cut, ...] = ()) -> None:
        """Run ``function(points, *arguments)``."""
        self.channel, theirs = pipe()
        self._process = fork(_run, function, theirs, cuts, arguments)
        theirs.close()
        self.said: list[tuple[Any, ...]] = []
        self.is_over = False

    def listen(self) -> tuple[Any, ...] | None:
        """Wait for what it says next; None when it has ended."""
        assert self.channel.poll(PATIENCE), f"nothing after {self.said[-1:]}"
        try:
            said: tuple[Any, ...] = self.channel.recv()
        except (EOFError, ConnectionResetError):
            self.is_over = True
            return None
        self.said.append(said)
        return said

    def until_it_stops(self) -> str:
        """Wait until it is at its cut: the kind of point."""
        while (said := self.listen()) is not None:
            if said[0] == "at":
                return str(said[1])
        raise AssertionError(f"it ended before its cut, after {self.said[-1:]}")

    def until_it_ends(self) -> None:
        """Read all that it says."""
        while self.listen() is not None:
            pass

    def heard(self, what: str) -> list[Any]:
        """What it has said of one kind so far."""
        return [about for said, *about in self.said if said == what]

    def go_on(self) -> None:
        """Let it go on from its cut."""
        self.channel.send("go on")

    def kill(self) -> None:
        """Kill it, if it still runs, and read what it had said."""
        end(self._process)
        while not self.is_over:
            self.listen()
        self.channel.close()

    def __enter__(self) -> Self:
        """It does not outlive the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it, unless that has been done."""
        if not self.channel.closed:
            self.kill()
