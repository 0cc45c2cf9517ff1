"""OpenTelemetry spans and metrics of appends, loads, catch-up and rebuilds. Needs the ``telemetry`` extra (the API package only).

``instrument()`` switches them on; where they go is the application's business, by the OpenTelemetry SDK.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, nullcontext
from importlib import metadata
from typing import TYPE_CHECKING, Any

from sa_eventsource.events import event_context
from sa_eventsource.extras import needs_extra
from sa_eventsource.observation import observe
from sa_eventsource.store import parameters_hidden

with needs_extra("telemetry", part="sa_eventsource.telemetry"):
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from sa_eventsource import observation
    from sa_eventsource.projections import CommandBacklog, ConsumerStatus, ReadModelManager

_NAME = "sa_eventsource"
_CONVENTIONS = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the semantic conventions that the names of attributes are from which are not the library's own."""

_PROPAGATOR = TraceContextTextMapPropagator()
_BOUNDARIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds. Those that the SDK takes by default are meant for milliseconds."""

# An append is no PRODUCER: the traces that consumers are linked to are those around the events' creation, not its own span.
_KINDS = {"append": SpanKind.CLIENT, "catch_up": SpanKind.CONSUMER}
_MESSAGING_TYPES = {"append": "send", "catch_up": "process"}


def instrument(tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> Callable[[], None]:
    """Make spans and metrics of what the library does in this process.

    Spans are named after operation and subject, such as ``append Order``, ``load Order``, ``catch_up order_list`` and
    ``rebuild order_list``, with the attributes ``sa_eventsource.operation``, ``sa_eventsource.subject`` (the aggregate type, the
    read model or the subscription; empty where there are several) and ``sa_eventsource.events``. Appends are spans of kind
    CLIENT and catch-ups of kind CONSUMER, with the attributes that the semantic conventions have for messaging. Both are linked to
    the traces that the events were stored with by :func:`trace_events`, and have the correlation id as
    ``messaging.message.conversation_id`` where all their events have the same. Spans of appends, loads and rebuilds are current
    while they run, so that the spans of a database driver come under them. A step of catching up that took nothing makes none.

    Metrics are the histogram ``sa_eventsource.duration`` in seconds and the counter ``sa_eventsource.events``, both by
    ``sa_eventsource.operation`` and ``sa_eventsource.subject``; of an operation that failed, the duration has ``error.type``.

    On an engine of ``postgresql+psycopg_pipelined``, the span of an append ends when all that travels with it has been answered:
    strong read models, snapshots, the COMMIT.

    Args:
        tracer_provider: Where spans go; None for the global one.
        meter_provider: Where metrics go; None for the global one.

    Returns:
        A function that switches it off again.
    """
    tracer = trace.get_tracer(_NAME, metadata.version(_NAME), tracer_provider, _CONVENTIONS)
    meter = metrics.get_meter(_NAME, metadata.version(_NAME), meter_provider)
    duration = meter.create_histogram(
        "sa_eventsource.duration", "s", "How long an operation took.", explicit_bucket_boundaries_advisory=_BOUNDARIES
    )
    events = meter.create_counter("sa_eventsource.events", "{event}", "How many events it was about.")

    def span_of(observed: observation.Observation, start_time: int | None = None) -> Span:
        name, kind = f"{observed.operation} {observed.subject}".rstrip(), _KINDS.get(observed.operation, SpanKind.INTERNAL)
        links = _links(observed.origin.traces)
        return tracer.start_span(name, kind=kind, attributes=_known_before(observed), links=links, start_time=start_time)

    @contextmanager
    def watch(observed: observation.Observation) -> Iterator[None]:
        began, began_at = time.perf_counter(), time.time_ns()
        of_what = {"sa_eventsource.operation": observed.operation, "sa_eventsource.subject": observed.subject}
        # A step of catching up is a span if it took anything, which is known in the end.
        span = None if observed.operation == "catch_up" else span_of(observed)
        try:
            with nullcontext() if span is None else trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield
        except BaseException as error:
            span = span or span_of(observed, began_at)
            _record(span, error)
            duration.record(time.perf_counter() - began, {**of_what, "error.type": _type_of(error)})
            raise
        else:
            if observed.operation == "catch_up":
                if not observed.events:
                    return
                span = span_of(observed, began_at)
            duration.record(time.perf_counter() - began, of_what)
            events.add(observed.events, of_what)
        finally:
            if span is not None:
                span.set_attributes(_known_after(observed))
                span.end()

    return observe(watch)


@contextmanager
def trace_events() -> Iterator[None]:
    """Store the current trace with all events that are applied within the block.

    Its context is kept in the events' metadata as ``traceparent`` and, where there is one, ``tracestate``, as W3C Trace Context
    writes them. Whoever catches up with the events later, in whatever process, makes a span that is linked to it. Where no span is
    current, nothing is stored. Blocks nest with :func:`~sa_eventsource.event_context`.

    Example: ``with tracer.start_as_current_span("place order"), trace_events(): ...``
    """
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    found: Any = carrier  # metadata only: no id is among them
    with event_context(**found):
        yield


def observe_lag(manager: ReadModelManager, meter_provider: MeterProvider | None = None) -> None:
    """Let each collection of metrics ask how far read models and subscriptions are behind, and how many commands wait.

    The gauges are ``sa_eventsource.lag.events``, ``sa_eventsource.lag.time`` in seconds and ``sa_eventsource.parked.events``, by
    ``sa_eventsource.consumer`` and ``sa_eventsource.state``; and ``sa_eventsource.commands``, by ``sa_eventsource.state``
    (``scheduled``, ``due``, ``overdue``, ``parked``; who is due is scheduled too). The database is asked once in each collection,
    for all of them. Switch it on in one process, such as that of the worker.

    Args:
        manager: Whose models are asked for.
        meter_provider: Where metrics go; None for the global one.
    """
    meter = metrics.get_meter(_NAME, metadata.version(_NAME), meter_provider)
    reading = _SharedReading(manager)

    def of_consumers(gauge: str, value: Callable[[ConsumerStatus], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(_: CallbackOptions) -> Iterable[Observation]:
            statuses, _backlog = reading.for_gauge(gauge)
            return [
                Observation(value(each), {"sa_eventsource.consumer": each.name, "sa_eventsource.state": each.state})
                for each in statuses
            ]

        return read

    def of_commands(_: CallbackOptions) -> Iterable[Observation]:
        _statuses, backlog = reading.for_gauge("commands")
        if backlog is None:
            return []
        return [
            Observation(getattr(backlog, state), {"sa_eventsource.state": state})
            for state in ("scheduled", "due", "overdue", "parked")
        ]

    for name, unit, description, value in (
        (
            "sa_eventsource.lag.events",
            "{event}",
            "Events yet to be taken, counted up to 10,000.",
            lambda each: each.lag_events,
        ),
        ("sa_eventsource.lag.time", "s", "How long ago the oldest of them was recorded.", lambda each: each.lag_seconds),
        ("sa_eventsource.parked.events", "{event}", "Events that are parked.", lambda each: each.parked_events),
    ):
        meter.create_observable_gauge(name, [of_consumers(name, value)], unit, description)
    meter.create_observable_gauge("sa_eventsource.commands", [of_commands], "{command}", "Commands that wait.")


class _SharedReading:
    """What the database said last: each gauge takes it once, and the one that comes for a second time asks again.

    So a database that cannot be reached is waited for once in a collection, too.
    """

    def __init__(self, manager: ReadModelManager) -> None:
        self._manager = manager
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self._said: tuple[Sequence[ConsumerStatus], CommandBacklog | None] | Exception | None = None

    def for_gauge(self, gauge: str) -> tuple[Sequence[ConsumerStatus], CommandBacklog | None]:
        with self._lock:
            if self._said is None or gauge in self._taken:
                self._said, self._taken = self._ask(), set()
            self._taken.add(gauge)
            if isinstance(self._said, Exception):
                raise self._said
            return self._said

    def _ask(self) -> tuple[Sequence[ConsumerStatus], CommandBacklog | None] | Exception:
        try:
            return self._manager.status(), self._manager.commands()
        except Exception as error:  # noqa: BLE001 - each gauge raises it
            return error


def _links(traces: Sequence[str]) -> list[Link]:
    contexts = (
        trace.get_current_span(_PROPAGATOR.extract({"traceparent": each}, trace.set_span_in_context(trace.INVALID_SPAN)))
        for each in traces
    )
    found = (each.get_span_context() for each in contexts)
    return [Link(each) for each in found if each.is_valid]


def _record(span: Span, error: BaseException) -> None:
    """Note why an operation failed, without the parameters of statements: spans leave the process, and these may be personal."""
    with parameters_hidden(error):
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, str(error)))
    span.set_attribute("error.type", _type_of(error))


def _type_of(error: BaseException) -> str:
    """Name an error's class as the SDK does in what it records of an exception."""
    module, name = type(error).__module__, type(error).__qualname__
    return name if module == "builtins" else f"{module}.{name}"


def _known_before(observed: observation.Observation) -> dict[str, str]:
    """Describe an operation that begins, by attributes of its own and by those that there are for messaging. Samplers see these."""
    found = {"sa_eventsource.operation": observed.operation, "sa_eventsource.subject": observed.subject}
    kind = _MESSAGING_TYPES.get(observed.operation)
    if kind is None:
        return found
    found |= {"messaging.system": _NAME, "messaging.operation.name": observed.operation, "messaging.operation.type": kind}
    if observed.subject:
        found["messaging.destination.name" if kind == "send" else "messaging.consumer.group.name"] = observed.subject
    if observed.origin.correlation_id is not None:
        found["messaging.message.conversation_id"] = str(observed.origin.correlation_id)
    return found


def _known_after(observed: observation.Observation) -> dict[str, int]:
    found = {"sa_eventsource.events": observed.events}
    return found | ({"messaging.batch.message_count": observed.events} if observed.operation in _MESSAGING_TYPES else {})
