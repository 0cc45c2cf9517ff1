"""Processes of the self-test in which a mechanism of the library is broken."""

from __future__ import annotations

import itertools
from multiprocessing.connection import Connection
from typing import Any

from sqlalchemy import Engine, event

from sa_eventsource.checkpoints import Snapshot, batches
from sa_eventsource.projections import steps
from sa_eventsource.read_models import strong
from sa_eventsource.selftest import actors
from sa_eventsource.selftest.actors import Job, act

_RARELY = 7


def followers_that_forget_who_is_running(job: Job, parent: Connection) -> None:
    """The snapshot of a window says of transactions under way that they have ended: what they commit later is skipped."""
    right = batches.visible_to_others

    def wrong(connection: Any) -> str:
        snapshot = right(connection)
        assert snapshot is not None
        seen = Snapshot.parse(snapshot)
        return str(Snapshot(seen.xmax, seen.xmax))

    batches.visible_to_others = wrong
    act(job, parent)


def followers_that_forget_how_far_they_are(job: Job, parent: Connection) -> None:
    """Now and then the rows are committed, and the checkpoint is not."""
    right, numbers = steps.save_checkpoint, itertools.count(1)  # type: ignore[attr-defined]

    def wrong(*arguments: Any, **options: Any) -> None:
        if next(numbers) % _RARELY:
            right(*arguments, **options)

    steps.save_checkpoint = wrong  # type: ignore[attr-defined]
    act(job, parent)


def commits_that_are_not_made(job: Job, parent: Connection) -> None:
    """Now and then a writer is told that its transaction is committed, and it is not."""
    numbers = itertools.count(1)

    def undo(connection: Any) -> None:
        if next(numbers) % _RARELY == 0:
            connection.connection.driver_connection.rollback()

    if job.role == "writer":
        event.listen(Engine, "commit", undo)
    act(job, parent)


def strong_models_that_are_not_written(job: Job, parent: Connection) -> None:
    """Now and then the events are written without the rows of a strong model."""
    right, numbers = strong._write, itertools.count(1)

    def wrong(*arguments: Any) -> None:
        if next(numbers) % _RARELY:
            right(*arguments)

    strong._write = wrong  # type: ignore[assignment]
    act(job, parent)


def processes_that_fail(job: Job, parent: Connection) -> None:
    """A process meets an error that nobody may meet."""

    def wrong(*_: Any) -> None:
        raise ZeroDivisionError("on purpose")

    actors.run_errands = wrong  # type: ignore[attr-defined, assignment]
    act(job, parent)
