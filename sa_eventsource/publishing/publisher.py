"""``Publisher``: events of a log to a message broker, once they are committed."""

from __future__ import annotations

import atexit
import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

from sqlalchemy import inspect as inspect_mapped

from sa_eventsource.consumers import Delivery, Relay, check_following, check_subscription, declare
from sa_eventsource.events import DomainEvent
from sa_eventsource.exceptions import DeclarationError, DeliveryDelayedError, MessageRefusedError, SubscriptionError
from sa_eventsource.extras import needs_extra
from sa_eventsource.mapping import tables_of_base
from sa_eventsource.publishing.event_loop import sending_loop
from sa_eventsource.publishing.functions_of_events import with_tenant
from sa_eventsource.publishing.messages import Message, attributes_of
from sa_eventsource.publishing.outcomes import Delayed, Refused
from sa_eventsource.publishing.sending_in_order import send_in_order
from sa_eventsource.store import message_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sa_eventsource.consumers import NamedSubscription, Start
    from sa_eventsource.events import RecordedEvent
    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.publishing.functions_of_events import OfEvent
    from sa_eventsource.publishing.outcomes import Outcome
    from sa_eventsource.publishing.sender import Sender

_SENDERS = {
    "RabbitBroker": ("rabbitmq", "RabbitMQSender"),
    "NatsBroker": ("nats", "NatsSender"),
    "RedisBroker": ("redis", "RedisSender"),
    "KafkaBroker": ("kafka", "KafkaSender"),
}
"""The extra and the class for each broker of FastStream. Only the module of the one that is used is imported."""

_declared: WeakSet[Publisher] = WeakSet()
_open: WeakSet[Publisher] = WeakSet()


class Publisher:
    """Publishes events to a message broker: after their commit, at least once, those of a stream in order.

    Example::

        publisher = Publisher("shop", OrderPlaced, OrderPaid, broker=RabbitBroker("amqp://..."), channel="shop", base=Base)

    A :class:`~sa_eventsource.Worker` runs it, as it runs subscriptions: ``sa-eventsource run``, or ``sa-eventsource publish`` for
    this one alone. It has a checkpoint and a status under its name. Nothing is published from within a transaction.

    What the broker has confirmed counts as published. While the broker is away, the publisher waits, with the status ``waiting``. A
    message that the broker will never take is parked, with all later ones of its stream, and other streams go on. Messages may be
    repeated, with the same id, when the process is killed or the connection is lost before the broker's answer was here.
    """

    def __init__(  # noqa: PLR0913 - most of them have defaults
        self,
        name: str,
        /,
        *event_types: type[DomainEvent],
        broker: Any,
        base: Any = None,
        channel: str | None = None,
        subject: str | OfEvent[str] | None = None,
        key: OfEvent[str] | None = None,
        headers: OfEvent[Mapping[str, str]] | None = None,
        source: str | None = None,
        schemas: str = "urn:jsonschema:",
        start: Start = "beginning",
        batch_size: int = 500,
        shards: int = 1,
        timeout: float = 10.0,
        personal_data: Literal["clear", "masked"] = "masked",
    ) -> None:
        """Declare it.

        Args:
            name: What its progress is kept under. A new name starts over.
            *event_types: The event classes to publish, with those that inherit from them.
            broker: A broker of FastStream: ``RabbitBroker``, ``NatsBroker``, ``RedisBroker`` or ``KafkaBroker``, for this publisher
                alone, as it is connected in an event loop of its own. Of a ``RabbitBroker`` and a ``NatsBroker``, the connection is
                used, and no middleware.
            base: The declarative base of the log; None for the one whose aggregates have the events.
            channel: Where in the broker: RabbitMQ's exchange, which must be there, JetStream's stream, which must have the
                subjects, Redis's stream, Kafka's topic. None for RabbitMQ's default exchange, where the subject is a queue's name,
                for whichever stream of JetStream has the subject; and, in Redis and Kafka, for one of the subject's name.
            subject: RabbitMQ's routing key or NATS's subject, as a text or from the event; None for
                ``aggregate_type.event_type``. A function that has a parameter ``tenant`` is given whose the event is, by that name:
                ``lambda event, tenant: f"{tenant}.orders"``; None where tenants do not share the log.
            key: The partition key, from the event, and the tenant likewise; None for the aggregate's id.
            headers: Headers besides those of the envelope, from the event, and the tenant likewise: the event's metadata is not
                published by itself.
            source: Who publishes, as a URI reference, such as ``https://shop.example/orders``; None for ``/`` and the name.
            schemas: What the URI of an event's JSON Schema begins with; its type, ``:`` and its version follow.
            start: Where a new publisher begins, as for :func:`~sa_eventsource.subscribe`.
            batch_size: Messages that may be in flight, and are repeated at most when the process is killed.
            shards: Into how many parts the streams are dealt out, so that so many workers publish at a time.
            personal_data: How personal fields are published: as they are, or as their placeholders, in the body and for the
                functions above. What a broker has got in clear, nobody takes back when its subject is forgotten.
            timeout: For how many seconds to wait for the broker's next answer, before what has none is sent again.

        Raises:
            DeclarationError: The name is taken or impossible; no event type is given; an option makes no sense; another publisher
                has the broker.
            MissingExtraError: What the broker needs is not installed.
            TypeError: The broker is none of FastStream's.
        """
        if not event_types or not all(isinstance(each, type) and issubclass(each, DomainEvent) for each in event_types):
            raise DeclarationError(
                f'Publisher() takes a name and event classes, as in Publisher("shop", OrderPlaced, broker=...), not {event_types!r}'
            )
        check_subscription(name, start, batch_size)
        if not timeout > 0:
            raise DeclarationError(f"publisher {name!r}: timeout is {timeout!r}; it must be a number of seconds above 0")
        if personal_data not in ("clear", "masked"):
            raise DeclarationError(f'publisher {name!r}: personal_data is {personal_data!r}; it must be "clear" or "masked"')
        self.name = name
        self.event_types = event_types
        self.base = base
        self.channel = channel
        self.source = source or f"/{name}"
        self._subject = subject if subject is None or isinstance(subject, str) else with_tenant(subject)
        self._key = None if key is None else with_tenant(key)
        self._headers = None if headers is None else with_tenant(headers)
        self._schemas = schemas
        self._start: Start = start
        self._batch_size = batch_size
        self._shards = shards
        self._in_clear = personal_data == "clear"
        self.sender = _sender_for(broker)(broker, channel, timeout)
        self.place = _place_of_caller()
        self._refuse_shared_broker()
        declare(self)
        _declared.add(self)

    def _refuse_shared_broker(self) -> None:
        """Refuse a broker of another publisher, which opens and closes its connection, and whose AsyncAPI document it is."""
        for other in list(_declared):
            if other.broker is self.broker and other.name != self.name:
                raise DeclarationError(
                    f"publisher {self.name!r} has the broker object of publisher {other.name!r}, which opens and closes its "
                    f"connection. Give each publisher an object of its own: broker={type(self.broker).__name__}(url)"
                )

    @property
    def broker(self) -> Any:
        """The broker of FastStream."""
        return self.sender.broker

    @property
    def destination(self) -> str:
        """Where messages go, in words: the kind of broker, the channel, and the subject where it is the same for all."""
        parts = [type(self.broker).__name__, *([] if self.channel is None else [f"channel {self.channel}"])]
        return ", ".join([*parts, *([f"subject {self._subject}"] if isinstance(self._subject, str) else [])])

    def subject_of_type(self, aggregate_type: str, event_type: type[DomainEvent]) -> str:
        """Tell what events of a type are published under, as far as it is known without an event: the default, if not."""
        return self._subject if isinstance(self._subject, str) else f"{aggregate_type}.{event_type.__event_type__}"

    def stands_in_for(self, other: NamedSubscription) -> bool:
        """Check whether this is the declaration that *other* was, made once more, as by ``importlib.reload()``."""
        return isinstance(other, Publisher) and other.place == self.place and "<" not in self.place.removesuffix("<module>")

    def on_log(self, tables: EventSourceTables, owner: type[Any]) -> Relay:
        """Make the subscription to a log, of an aggregate whose events it takes."""
        relay = Relay(
            name=self.name,
            tables=tables,
            on_error="park",
            shards=self._shards,
            start=self._start,
            events_at_a_time=self._batch_size,
            mapper=inspect_mapped(owner),
            event_types=self.event_types,
            destination=self.destination,
            deliver=self.deliver,
            in_clear=self._in_clear,
        )
        check_following(f"publisher {self.name!r}", relay)
        return relay

    def deliver(self, events: Sequence[RecordedEvent[Any]], tenant: str | None) -> Delivery:
        """Publish events, given in the order of their positions, and wait for the broker's answers.

        Nothing is sent unless a message can be made of each.

        Args:
            events: The events.
            tenant: Whose they are, where tenants share the log.

        Raises:
            SubscriptionError: A function of the application raised for an event, or gave what cannot be published.
        """
        messages = [self.message(event, tenant) for event in events]
        if not messages:
            return Delivery(frozenset())
        _open.add(self)
        sent = sending_loop.run(send_in_order(self.sender, messages))
        recorded = {event.event_id: event for event in events}
        return Delivery(
            taken={message.event_id for message, outcome in sent if outcome is None},
            refused={
                message.event_id: self._refused(recorded[message.event_id], message, outcome)
                for message, outcome in sent
                if isinstance(outcome, Refused)
            },
            delayed=self._delayed([outcome for _, outcome in sent]),
        )

    def message(self, recorded: RecordedEvent[Any], tenant: str | None) -> Message:
        """Make the message that an event is published as.

        Args:
            recorded: The event.
            tenant: Whose it is, where tenants share the log.

        Raises:
            SubscriptionError: A function of the application raised, or gave what cannot be published.
        """
        try:
            event_type = type(recorded.event)
            key = recorded.aggregate_id if self._key is None else _text("key", self._key(recorded, tenant))
            schema = f"{self._schemas}{event_type.__event_type__}:{event_type.__event_version__}"
            return Message(
                event_id=recorded.event_id,
                stream=(recorded.aggregate_type, recorded.aggregate_id),
                attributes=attributes_of(recorded, source=self.source, schema=schema, key=key, tenant=tenant),
                body=recorded.event.__pydantic_serializer__.to_json(recorded.event, by_alias=True),
                subject=self._subject_of(recorded, tenant),
                key=key,
                headers={} if self._headers is None else _texts(self._headers(recorded, tenant)),
            )
        except Exception as error:
            named = f"{recorded.event_type} {recorded.event_id} ({recorded.aggregate_type} {recorded.aggregate_id!r})"
            raise SubscriptionError(self.name, events=[named], event_ids=[recorded.stored_id], reason=message_of(error)) from error

    def asyncapi(self, *, title: str | None = None, version: str = "1.0.0") -> str:
        """Write the AsyncAPI document of what is published, as JSON.

        Where the subject is a function of the event, the document has the default one.

        Args:
            title: Title of the document; None for the publisher's name.
            version: Version of the document.

        Raises:
            DeclarationError: The publisher was declared without a base, so that its aggregates are not known.
        """
        if self.base is None:
            raise DeclarationError(f"publisher {self.name!r} does not say which log it follows; declare it with base=Base")
        module = import_module("sa_eventsource.publishing.asyncapi_document")
        tables = tables_of_base("Publisher.asyncapi()", self.base)
        text: str = module.asyncapi_document(self, tables, title=title or self.name, version=version)
        return text

    def close(self) -> None:
        """Close the connection to the broker. The next message opens another one."""
        _open.discard(self)
        sending_loop.run(self.sender.close())

    def _subject_of(self, recorded: RecordedEvent[Any], tenant: str | None) -> str:
        if callable(self._subject):
            return _text("subject", self._subject(recorded, tenant))
        return self.subject_of_type(recorded.aggregate_type, type(recorded.event))

    def _refused(self, recorded: RecordedEvent[Any], message: Message, outcome: Refused) -> MessageRefusedError:
        named = (
            f"{type(recorded.event).__event_type__} {recorded.event_id} ({recorded.aggregate_type} {recorded.aggregate_id!r} "
            f"version {recorded.version})"
        )
        return MessageRefusedError(
            self.name, event=named, event_id=recorded.stored_id, subject=message.subject, reason=outcome.reason
        )

    def _delayed(self, outcomes: Sequence[Outcome]) -> DeliveryDelayedError | None:
        reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Delayed)]
        return DeliveryDelayedError(self.name, reasons[0]) if reasons else None


@atexit.register
def _close_all() -> None:
    for publisher in list(_open):
        publisher.close()


def _sender_for(broker: Any) -> type[Sender]:
    for base in type(broker).__mro__:
        if base.__module__.startswith("faststream.") and base.__name__ in _SENDERS:
            extra, class_name = _SENDERS[base.__name__]
            with needs_extra(extra, part="publishing"):
                module = import_module(f"sa_eventsource.publishing.{extra}_sender")
            found: type[Sender] = getattr(module, class_name)
            return found
    raise TypeError(f"Publisher(broker=...) takes a broker of FastStream, such as RabbitBroker(url), not {broker!r}")


def _text(what: str, given: object) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{what} gave {given!r}; it must give a text")
    return given


def _texts(given: Mapping[str, str]) -> dict[str, str]:
    return {str(name): str(value) for name, value in given.items()}


def _place_of_caller() -> str:
    """Name where in the application's code a publisher is made."""
    frame = inspect.currentframe()
    caller = frame and frame.f_back and frame.f_back.f_back
    if caller is None:
        return "<unknown>"
    return f"{caller.f_globals.get('__name__', '<unknown>')}.{caller.f_code.co_qualname}"
