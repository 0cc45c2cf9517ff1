"""What runs in a process of its own: a writer, a worker or a stranger, until it is told to stop, is killed, or is orphaned."""

from __future__ import annotations

import logging
import os
import signal
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sa_eventsource.selftest.cuts import Cuts
from sa_eventsource.selftest.followers import worker
from sa_eventsource.selftest.journal import Journal
from sa_eventsource.selftest.plan import chance_of
from sa_eventsource.selftest.strangers import run_errands
from sa_eventsource.selftest.writers import Writer
from sa_eventsource.store import Meaning, meaning_of, message_of

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from sqlalchemy import Engine

    from sa_eventsource.selftest.own_schema import OwnSchema
    from sa_eventsource.selftest.plan import Role

READY = "ready"
STOP = "stop"


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is to do.

    Attributes:
        schema: Where the tables are.
        seed: Of the run.
        role: What it is.
        name: Unique in the run; a process that takes the place of another has a name of its own.
        folder: Where it writes its journal.
        begun: When the run began, as ``time.time()`` gives it.
    """

    schema: OwnSchema
    seed: int
    role: Role
    name: str
    folder: Path
    begun: float


def act(job: Job, parent: Connection) -> None:
    """Do the job. The parent is told when it begins, and tells when to stop; a process whose parent is gone ends at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    logging.basicConfig(filename=job.folder / f"{job.name}.log", level=logging.WARNING)
    stop = threading.Event()
    threading.Thread(target=_listen, args=(parent, stop), daemon=True).start()
    engine = job.schema.engine()
    with Journal(job.folder / f"{job.name}.journal") as journal:
        try:
            Cuts(engine, chance_of(job.seed, job.name, "cuts"), journal)
            parent.send(READY)
            perform(job, engine, journal, stop)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            if meaning_of(error) is Meaning.GIVE_UP:
                journal.note("unsuitable", message_of(error))
            else:
                journal.note("failed", f"{job.name}: {traceback.format_exc()}")
        finally:
            engine.dispose()


def perform(job: Job, engine: Engine, journal: Journal, stop: threading.Event) -> None:
    """Be what the job says."""
    chance = chance_of(job.seed, job.name)
    match job.role:
        case "writer":
            Writer(job.name, engine, journal, chance, job.begun).run(stop)
        case "worker":
            worker(engine, journal).run(stop)
        case "stranger":
            run_errands(engine, journal, chance, stop)


def _listen(parent: Connection, stop: threading.Event) -> None:
    try:
        parent.recv()
    except (EOFError, OSError):
        os._exit(1)
    stop.set()
