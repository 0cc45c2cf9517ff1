"""The processes of a run: they are started, killed and replaced, and none outlives the run."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sa_eventsource.exceptions import SelftestError
from sa_eventsource.interrupts import uninterrupted
from sa_eventsource.selftest.actors import READY, STOP, Job, act

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from sa_eventsource.selftest.own_schema import OwnSchema
    from sa_eventsource.selftest.plan import Plan

_PATIENCE = 60.0
"""Seconds after which a process that does not begin, or does not stop, is taken for hung."""

_spawning = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class _Running:
    process: SpawnProcess
    channel: Connection
    is_at_work: bool = False


@dataclass(slots=True)
class Crew:
    """All processes of a run.

    Attributes:
        plan: Who they are.
        schema: Where the tables are.
        folder: Where they write their journals.
        begun: When the run began, as ``time.time()`` gives it.
        actor: What runs in a process.
        kills: How many were killed.
        failures: Those that ended by themselves, or did not stop when they were told to.
    """

    plan: Plan
    schema: OwnSchema
    folder: Path
    begun: float
    actor: Callable[[Job, Connection], None] = act
    kills: int = 0
    failures: list[str] = field(default_factory=list)
    _running: dict[str, _Running] = field(default_factory=dict)
    _started: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Start them all."""
        try:
            for name in self.plan.crew:
                self._start(name)
            for name in self.plan.crew:
                self._await_readiness(name)
        except BaseException:
            self._end_all()
            raise
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None) -> None:
        """Kill those that still run."""
        self._end_all()

    def is_whole(self) -> bool:
        """Check whether all who were started are at work, or have ended by themselves."""
        for each in self._running.values():
            if not each.is_at_work and (each.process.exitcode is not None or each.channel.poll()):
                each.is_at_work = True
        return all(each.is_at_work for each in self._running.values())

    def kill(self, name: str) -> None:
        """Kill a process wherever it is, and start another in its place; one that has ended by itself is not replaced."""
        running = self._running[name]
        if running.process.exitcode is not None:
            return
        running.process.kill()
        running.process.join()
        running.channel.close()
        self.kills += 1
        self._start(name)

    def stop(self) -> None:
        """Ask all to stop, and wait until they have: workers last, for whom a writer may be waiting. Kill who does not stop."""
        for roles in (("writer", "stranger"), ("worker",)):
            self._stop({name: each for name, each in self._running.items() if self.plan.crew[name] in roles})
        self._end_all()

    def _stop(self, some: dict[str, _Running]) -> None:
        for each in some.values():
            with suppress(OSError):  # it has ended
                each.channel.send(STOP)
        end = time.monotonic() + _PATIENCE
        for name, each in some.items():
            each.process.join(max(0.0, end - time.monotonic()))
            if each.process.exitcode is None:
                self.failures.append(f"{name} did not stop within {_PATIENCE:.0f} s")
            elif each.process.exitcode != 0:
                self.failures.append(f"{name} ended by itself, with status {each.process.exitcode}")

    def _start(self, name: str) -> None:
        number = self._started.get(name, 0) + 1
        self._started[name] = number
        job = Job(self.schema, self.plan.seed, self.plan.crew[name], f"{name} {number}".replace(" ", "-"), self.folder, self.begun)
        channel, theirs = _spawning.Pipe()
        process = _spawning.Process(target=self.actor, args=(job, theirs), daemon=True)
        with uninterrupted():  # SIGINT is for the run alone, while the process imports too
            process.start()
        theirs.close()
        self._running[name] = _Running(process, channel)

    def _await_readiness(self, name: str) -> None:
        running = self._running[name]
        try:
            if running.channel.poll(_PATIENCE) and running.channel.recv() == READY:
                running.is_at_work = True
                return
        except EOFError:
            running.process.join()
        raise SelftestError(f"{name} does not start: its process ended with status {running.process.exitcode}")

    def _end_all(self) -> None:
        for each in self._running.values():
            each.process.kill()
        for each in self._running.values():
            each.process.join()
            each.channel.close()
        self._running.clear()
