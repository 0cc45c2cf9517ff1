"""The stream that a page is asked for, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select
from starlette.exceptions import HTTPException

from sa_eventsource.aggregates import definition_of
from sa_eventsource.application_errors import text_of
from sa_eventsource.events import CLOSED_TYPE
from sa_eventsource.exceptions import AggregateIdError, AggregateNotFoundError
from sa_eventsource.store import refuse_archived

if TYPE_CHECKING:
    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.browser.page import Visit


@dataclass(frozen=True, slots=True)
class AskedStream:
    """A stream that is there.

    Attributes:
        definition: The aggregate's class.
        aggregate_id: Its id as stored.
        last: Its last version.
        is_closed: Whether its last event has closed it.
    """

    definition: AggregateDefinition
    aggregate_id: str
    last: int
    is_closed: bool

    @property
    def address(self) -> dict[str, str]:
        """What names it in addresses."""
        return {"type": self.definition.aggregate_type, "id": self.aggregate_id}


def asked_stream(visit: Visit) -> AskedStream | None:
    """Find the stream that is asked for; None where this process has no class for it.

    Raises:
        AggregateNotFoundError: It has no events.
        StreamArchivedError: They are archived.
        HTTPException: None is named, or the id cannot be one.
    """
    aggregate_type, aggregate_id = visit.asked("type"), visit.request.query_params.get("id", "")
    if aggregate_type is None:
        raise HTTPException(400, "Name an aggregate: ?type=Order&id=order-1")
    aggregate_class = visit.tables.aggregate_classes.get(aggregate_type)
    if aggregate_class is None:
        return None
    definition = definition_of(aggregate_class)
    _check_id(definition, aggregate_id)
    events = visit.tables.events
    of_stream = (events.c.aggregate_type == aggregate_type, events.c.aggregate_id == aggregate_id)
    newest = select(events.c.version, events.c.event_type).where(*of_stream).order_by(events.c.version.desc()).limit(1)
    last = visit.connection.execute(newest).one_or_none()
    if last is None:
        raise AggregateNotFoundError(aggregate_type, aggregate_id)
    refuse_archived(visit.connection, events, aggregate_type, aggregate_id)
    return AskedStream(definition, aggregate_id, last.version, last.event_type == CLOSED_TYPE)


def _check_id(definition: AggregateDefinition, aggregate_id: str) -> None:
    try:
        is_stored_so = definition.text_id(definition.typed_id(aggregate_id)) == aggregate_id
    except AggregateIdError as error:
        raise HTTPException(404, text_of(error)) from error
    except ValueError:
        is_stored_so = False
    if not is_stored_so:
        raise HTTPException(
            404, f"“{aggregate_id}” is no id of {definition.aggregate_type}: it is of type {definition.id_type.__name__}."
        )
