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

from sa_eventsource.application_errors import text_of
from sa_eventsource.checkpoints import of_consumer
from sa_eventsource.projections import EventReplayer

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
        try:
            with source.session(tenant) as session:
                events = definition.tables.events
                counted = select(func.count()).select_from(events).where(of_consumer(definition))
                self.total = session.execute(counted, bind_arguments=definition.bind_arguments).scalar_one()
            replayer = EventReplayer(lambda: source.session(tenant), source.base)  # type: ignore[arg-type]
            self.taken = replayer.rebuild(definition.model, progress=self._has_taken)
        except Exception as error:  # a handler of the application may raise anything
            log.exception("rebuilding %s failed", definition.name)
            self.error = text_of(error)
        finally:
            self.ended = datetime.now(UTC)
            self._done.set()

    def _has_taken(self, number: int) -> None:
        self.taken = number


class Rebuilds:
    """The rebuilds of a browser: of each model, and each tenant's rows of it, the latest."""

    def __init__(self, source: LogSource) -> None:
        """Take the log. None has begun yet."""
        self._source = source
        self._latest: dict[tuple[str, str | None], Rebuild] = {}
        self._one_at_a_time = threading.Lock()

    def of(self, definition: ReadModelDefinition, tenant: str | None) -> Rebuild | None:
        """Get the latest rebuild of a model; None where there was none."""
        return self._latest.get((definition.name, tenant))

    def begin(self, definition: ReadModelDefinition, tenant: str | None) -> Rebuild:
        """Begin to rebuild a model, unless that is under way."""
        with self._one_at_a_time:
            latest = self.of(definition, tenant)
            if latest is not None and latest.ended is None:
                return latest
            new = self._latest[definition.name, tenant] = Rebuild(datetime.now(UTC))
        # As a daemon, it holds up no server that ends: what it has not committed is rolled back.
        name = f"rebuild {definition.name}"
        threading.Thread(target=new.run, args=(self._source, definition, tenant), name=name, daemon=True).start()
        return new
