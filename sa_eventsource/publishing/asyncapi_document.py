"""The AsyncAPI document of what a publisher sends: FastStream writes it, from the JSON Schemas of the event classes."""

from __future__ import annotations

from inspect import getdoc
from typing import TYPE_CHECKING

from faststream.specification import AsyncAPI

from sa_eventsource.consumers import knows
from sa_eventsource.events import members

if TYPE_CHECKING:
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.publishing.publisher import Publisher


def asyncapi_document(publisher: Publisher, tables: EventSourceTables, *, title: str, version: str) -> str:
    """Write the document, as JSON; FastStream's publishers that it takes for that stay on the broker.

    Args:
        publisher: The publisher.
        tables: The tables of the log that it follows.
        title: Title of the document.
        version: Version of the document.
    """
    for event_class in members(publisher.event_types):
        for aggregate_type, aggregate in sorted(tables.aggregate_classes.items()):
            if knows(aggregate, [event_class]):
                publisher.sender.describe(
                    publisher.subject_of_type(aggregate_type, event_class),
                    schema=event_class,
                    title=f"{aggregate_type}.{event_class.__event_type__}",
                    description=getdoc(event_class) or "",
                )
    text: str = AsyncAPI(publisher.broker, title=title, version=version).to_specification().to_json()
    return text
