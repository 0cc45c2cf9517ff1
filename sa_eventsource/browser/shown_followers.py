"""What follows the log, as pages show it: which there are, and how far each has come, lane by lane."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from starlette.exceptions import HTTPException

from sa_eventsource.checkpoints import Checkpoint, read_checkpoint
from sa_eventsource.consumers import consumers_on, followers_of
from sa_eventsource.processes import ProcessSubscription
from sa_eventsource.projections import ConsumerStatus, status_of
from sa_eventsource.read_models import ReadModelDefinition
from sa_eventsource.store import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.browser.page import Visit
    from sa_eventsource.consumers import Consumer
    from sa_eventsource.mapping import EventSourceTables

_Told = TypeVar("_Told", Checkpoint, ConsumerStatus)
HIDDEN = "What went wrong may tell personal data, which you may not see."
"""What stands in place of an error."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A part of a consumer that follows the log by itself: one of its shards, or all of it.

    Attributes:
        name: What its checkpoint is kept under.
        checkpoint: How far it has come.
    """

    name: str
    checkpoint: Checkpoint


def consumer_named(tables: EventSourceTables, name: str | None) -> Consumer:
    """Find a read model, a subscription, a publisher or a process manager by its name.

    Raises:
        HTTPException: There is none.
    """
    known: dict[str, Consumer] = {each.name: each for each in (*tables.read_models.values(), *consumers_on(tables))}
    if name not in known:
        raise HTTPException(404, f"Nothing that follows the log is called {name}. Is its module imported?")
    return known[name]


def page_of(consumer: Consumer) -> str:
    """Say which address shows a consumer."""
    if isinstance(consumer, ReadModelDefinition):
        return "model"
    return "process" if isinstance(consumer, ProcessSubscription) else "subscription"


def hides_errors(visit: Visit, consumer: Consumer) -> bool:
    """Check whether errors of a consumer may quote personal data, which it reads in clear, and the reader may not see it."""
    has_some = visit.tables.options.master_keys is not None
    return has_some and not visit.access.personal_data and consumer.personal_data is not Reading.MASKED


def lanes_of(visit: Visit, consumer: Consumer) -> list[Lane]:
    """Read how far each part of a consumer has come."""
    followers = followers_of(consumer, visit.connection.dialect)
    return [Lane(each.name, _told(visit, consumer, read_checkpoint(visit.connection, each))) for each in followers]


def _told(visit: Visit, consumer: Consumer, found: _Told) -> _Told:
    """Leave out of what is known of a consumer what the reader may not see."""
    return replace(found, error=HIDDEN) if found.error is not None and hides_errors(visit, consumer) else found


def statuses_of(visit: Visit, consumers: Sequence[Consumer]) -> list[ConsumerStatus]:
    """Report how far consumers have come. The page's own transaction is over then: a pool may have one connection only."""
    visit.reader.rollback()
    with visit.source.session_in_time(visit.tenant) as session:
        return [_told(visit, each, status_of(session, each)) for each in consumers]
