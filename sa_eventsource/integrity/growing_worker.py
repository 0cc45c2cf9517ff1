"""What a worker does about proofs alongside following the log: it puts events into the tree, once a second."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from sa_eventsource.exceptions import ProofError
from sa_eventsource.integrity.proofs_of_base import proofs_on
from sa_eventsource.integrity.tree_growth import TreeGrowth, grow_fully
from sa_eventsource.store import message_of
from sa_eventsource.workers import AsyncCompanion, Companion, Companionship, uncut

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("sa_eventsource.worker")

NAME = "proofs"

_EVERY = 1.0
"""Seconds from one time to the next: a batch, and with it a head, for all events of a second."""


class _Outage:
    """How long to wait after an error, and whether it was logged."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._pause = 0.0
        self._said: str | None = None

    def over(self) -> float:
        """Forget the error; give the seconds to wait."""
        self._pause, self._said = 0.0, None
        return _EVERY

    def begin(self, error: Exception) -> float:
        """Log an error, unless it was the last one that was; give the seconds to wait."""
        text = message_of(error)
        if text != self._said:
            level = logging.ERROR if isinstance(error, ProofError) else logging.WARNING
            log.log(level, "%s: no events are put into the Merkle tree for now: %s", NAME, text)
        self._said = text
        self._pause = min(max(2 * self._pause, _EVERY), max(self._longest, _EVERY))
        return self._pause


class GrowingTreeCompanion(Companion):
    """Puts events into the tree in a worker's thread."""

    name = NAME

    def __init__(self, worker: Companionship) -> None:
        """Take the worker's sessions."""
        self._worker = worker
        self._growth = TreeGrowth(proofs_on(worker.tables))
        self._outage = _Outage(worker.pace.longest_wait)
        self._woken = threading.Event()

    def run(self, is_stopping: Callable[[], bool]) -> None:
        """Put events in, and wait."""
        due = time.monotonic()
        while not is_stopping():
            if time.monotonic() >= due:
                due = time.monotonic() + self._grow(is_stopping)
            self._woken.wait(max(0.0, due - time.monotonic()))
            self._woken.clear()

    def run_once(self) -> None:
        """Put in what is there."""
        with self._worker.sessions() as session:
            grow_fully(self._growth, session)

    def wake(self) -> None:
        """Look whether it is time to stop; a batch a second is often enough, however often others commit."""
        self._woken.set()

    def _grow(self, is_stopping: Callable[[], bool]) -> float:
        try:
            with self._worker.sessions() as session:
                while not is_stopping() and self._growth.grow(session):
                    pass
        except Exception as error:  # noqa: BLE001 - nothing else depends on it
            return self._outage.begin(error)
        return self._outage.over()


class AsyncGrowingTree(AsyncCompanion):
    """Puts events into the tree in a task of an asynchronous worker. As :class:`GrowingTreeCompanion`."""

    name = NAME

    def __init__(self, worker: Companionship) -> None:
        """Take the worker's sessions."""
        self._worker = worker
        self._growth = TreeGrowth(proofs_on(worker.tables))
        self._outage = _Outage(worker.pace.longest_wait)

    async def run(self, stop: asyncio.Event) -> None:
        """Put events in, and wait."""
        while not stop.is_set():
            pause = await self._grow(stop)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)

    async def run_once(self) -> None:
        """Put in what is there, and wait for nobody: what others are still writing comes with the next run."""
        async with self._worker.sessions() as session:
            while await uncut(session, self._growth.grow) > 0:
                pass

    async def _grow(self, stop: asyncio.Event) -> float:
        try:
            async with self._worker.sessions() as session:
                while not stop.is_set() and await uncut(session, self._growth.grow) > 0:
                    pass
        except Exception as error:  # noqa: BLE001 - nothing else depends on it
            return self._outage.begin(error)
        return self._outage.over()


def growing_tree(worker: Companionship) -> GrowingTreeCompanion | None:
    """Put events into the tree alongside a worker, if its base has proofs."""
    return None if worker.tables.merkle_tree is None else GrowingTreeCompanion(worker)


def async_growing_tree(worker: Companionship) -> AsyncGrowingTree | None:
    """Put events into the tree alongside an asynchronous worker, if its base has proofs."""
    return None if worker.tables.merkle_tree is None else AsyncGrowingTree(worker)
