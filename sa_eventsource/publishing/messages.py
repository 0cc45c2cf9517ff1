"""Messages: an event, and where it goes. What is sent is a CloudEvent in binary mode: the event's JSON, its context in headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sa_eventsource.events import RecordedEvent

CONTENT_TYPE = "application/json"
CORRELATION = "correlationid"
"""The attribute that is also a property of a message, where a broker has one."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event on its way to a broker.

    Attributes:
        event_id: The event's id.
        stream: The stream that it belongs to: aggregate type and id.
        attributes: The attributes of the CloudEvent: texts, and the time in UTC.
        body: The event's JSON text.
        subject: What it is published under: RabbitMQ's routing key, NATS's subject; elsewhere a part of the address if no channel
            is named.
        key: The partition key.
        headers: Headers besides those of the envelope.
    """

    event_id: UUID
    stream: tuple[str, str]
    attributes: dict[str, Any]
    body: bytes
    subject: str
    key: str
    headers: Mapping[str, str]

    def as_headers(self) -> dict[str, str]:
        """Write the attributes as the bindings of CloudEvents to AMQP 0.9.1 and HTTP do, besides the other headers.

        The content type is not among them: each protocol has a place of its own for it.
        """
        headers = dict(self.headers)
        for name, value in self.attributes.items():
            if name != "datacontenttype":
                headers[f"ce-{name}"] = value if isinstance(value, str) else value.isoformat().replace("+00:00", "Z")
        return headers


def attributes_of(recorded: RecordedEvent[Any], *, source: str, schema: str, key: str, tenant: str | None) -> dict[str, Any]:
    """Write the attributes of an event as a CloudEvent, version 1.0.

    Args:
        recorded: The event, in the newest version of its class.
        source: Who publishes it, as a URI reference.
        schema: The URI of its JSON Schema.
        key: The partition key.
        tenant: Whose the event is, where tenants share the log.
    """
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(recorded.event_id),
        "source": source,
        "type": type(recorded.event).__event_type__,
        "subject": recorded.aggregate_id,
        "time": recorded.occurred_at,
        "datacontenttype": CONTENT_TYPE,
        "dataschema": schema,
        "partitionkey": key,
        "aggregatetype": recorded.aggregate_type,
        "aggregateversion": str(recorded.version),
    }
    if recorded.correlation_id is not None:
        attributes[CORRELATION] = str(recorded.correlation_id)
    if recorded.causation_id is not None:
        attributes["causationid"] = str(recorded.causation_id)
    if tenant is not None:
        attributes["tenantid"] = tenant
    return attributes
