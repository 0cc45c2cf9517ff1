"""Rebuilds of read models that readers have begun: each in a thread of its own, so that no request waits for it.

A rebuild is one transaction. Nothing of it is kept anywhere else: if the process ends before it is done, the database rolls it
back, and all is as it was. How far it has come is known to the process that is at it, and to no other.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from starlette.exceptions import HTTPException

from sa_eventsource.application_errors import ends_program, text_of
from sa_eventsource.checkpoints import of_consumer
from sa_eventsource.exceptions import EventSourceError
from sa_eventsource.projections import EventReplayer
from sa_eventsource.store import loggable, message_of

if TYPE_CHECKING:
    from sa_eventsource.browser.log_source import LogSource
    from sa_eventsource.read_models import ReadModelDefinition

log = logging.getLogger("sa_eventsource.rebuild")


@dataclass(slots=True)
class Rebuild:
    """A rebuild.

    Attributes:
        began: When it began.
        total: How many events there are to take; None until they are counted.
        taken: How many it has taken. A model whose rows are made by one statement takes all of them at its end.
        ended: When it ended; None while it runs.
        error: What it failed at; None where it did not.
    """

    began: datetime
    total: int | None = None
    taken: int = 0
    ended: datetime | None = None
    error: str | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    @property
    def seconds(self) -> float:
        """How long it has taken, until now or its end."""
        return ((self.ended or datetime.now(UTC)) - self.began).total_seconds()

    def wait(self, seconds: float) -> bool:
        """Wait for its end; return whether it came in time."""
        return self._done.wait(seconds)

    def run(self, source: LogSource, definition: ReadModelDefinition, tenant: str | None) -> None:
        """Do it."""
        # Whatever ends it, also where its words cannot be had, only what has come to its end has succeeded.
        error: str | None = "It was ended before it was done."
        try:
            with source.session(tenant) as session:
                events = definition.tables.events
                counted = select(func.count()).select_from(events).where(of_consumer(definition))
                self.total = session.execute(counted, bind_arguments=definition.bind_arguments).scalar_one()
            replayer = EventReplayer(lambda: source.session(tenant), source.base)  # type: ignore[arg-type]
            self.taken = replayer.rebuild(definition.model, progress=self._has_taken)
            error = None
        except BaseException as raised:  # a handler of the application may raise anything
            log.exception("rebuilding %s failed", definition.name, exc_info=loggable(raised))
            if ends_program(raised):
                raise
            error = text_of(raised) if isinstance(raised, EventSourceError) else message_of(raised)
        finally:
            self.error, self.ended = error, datetime.now(UTC)
            self._done.set()

    def _has_taken(self, number: int) -> None:
        self.taken = number


class Rebuilds:
    """The rebuilds of a browser: of each model, and each tenant's rows of it, the latest. One goes on at a time.

    Each has a connection, for as long as it takes and waits for whoever works on the model: several would leave none for pages.
    """

    def __init__(self, source: LogSource) -> None:
        """Take the log. None has begun yet."""
        self._source = source
        self._latest: dict[tuple[str, str | None], Rebuild] = {}
        self._one_at_a_time = threading.Lock()

    def of(self, definition: ReadModelDefinition, tenant: str | None) -> Rebuild | None:
        """Get the latest rebuild of a model; None where there was none."""
        return self._latest.get((definition.name, tenant))

    def begin(self, definition: ReadModelDefinition, tenant: str | None) -> Rebuild:
        """Begin to rebuild a model, unless that is under way.

        Raises:
            HTTPException: Another rebuild is.
        """
        with self._one_at_a_time:
            latest = self.of(definition, tenant)
            if latest is not None and latest.ended is None:
                return latest
            running = next((name for (name, _), each in self._latest.items() if each.ended is None), None)
            if running is not None:
                raise HTTPException(
                    409, f"{running} is being rebuilt here, and only one rebuild goes on at a time. Try again when it is done."
                )
            new = Rebuild(datetime.now(UTC))
            # As a daemon, it holds up no server that ends: what it has not committed is rolled back.
            name = f"rebuild {definition.name}"
            threading.Thread(target=new.run, args=(self._source, definition, tenant), name=name, daemon=True).start()
            self._latest[definition.name, tenant] = new
        return new
