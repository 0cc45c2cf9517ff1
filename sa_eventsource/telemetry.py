"""OpenTelemetry spans and metrics of appends, loads, catch-up and rebuilds. Needs the ``telemetry`` extra (the API package only).

``instrument()`` switches them on; where they go is the application's business, by the OpenTelemetry SDK.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING

from sa_eventsource.extras import needs_extra
from sa_eventsource.observation import observe

with needs_extra("telemetry", part="sa_eventsource.telemetry"):
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from sa_eventsource import observation
    from sa_eventsource.projections import ReadModelManager

_NAME = "sa_eventsource"


def instrument(tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> Callable[[], None]:
    """Make spans and metrics of what the library does in this process.

    Spans are ``sa_eventsource append``, ``load``, ``catch_up`` and ``rebuild``, with the attributes ``sa_eventsource.subject`` (the
    aggregate type, the read model or the subscription) and ``sa_eventsource.events``; the first two are current while they run, so
    that the spans of a database driver come under them. A step of catching up that took nothing makes none. Metrics are the
    histogram ``sa_eventsource.duration`` in seconds and the counter ``sa_eventsource.events``, both by operation and subject.

    Args:
        tracer_provider: Where spans go; None for the global one.
        meter_provider: Where metrics go; None for the global one.

    Returns:
        A function that switches it off again.
    """
    version = metadata.version(_NAME)
    tracer = trace.get_tracer(_NAME, version, tracer_provider)
    meter = metrics.get_meter(_NAME, version, meter_provider)
    duration = meter.create_histogram("sa_eventsource.duration", "s", "How long an operation took.")
    events = meter.create_counter("sa_eventsource.events", "{event}", "How many events it was about.")

    @contextmanager
    def watch(observed: observation.Observation) -> Iterator[None]:
        began, began_at = time.perf_counter(), time.time_ns()
        name = f"{_NAME} {observed.operation}"
        if observed.operation == "catch_up":
            yield
            if not observed.events:
                return
            tracer.start_span(name, attributes=_described(observed), start_time=began_at).end()
        else:
            with tracer.start_as_current_span(name) as span:
                yield
                span.set_attributes(_described(observed))
        of_what = {"operation": observed.operation, "subject": observed.subject}
        duration.record(time.perf_counter() - began, of_what)
        events.add(observed.events, of_what)

    return observe(watch)


def observe_lag(manager: ReadModelManager, meter_provider: MeterProvider | None = None) -> None:
    """Let each collection of metrics ask how far read models and subscriptions are behind.

    The gauges are ``sa_eventsource.lag.events`` and ``sa_eventsource.lag.time`` in seconds, by consumer and state. Switch it on in
    one process, such as that of the worker: each collection asks the database.

    Args:
        manager: Whose models are asked for.
        meter_provider: Where metrics go; None for the global one.
    """
    meter = metrics.get_meter(_NAME, metadata.version(_NAME), meter_provider)

    def lag_events(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(each.lag_events, {"consumer": each.name, "state": each.state}) for each in manager.status()]

    def lag_time(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(each.lag_seconds, {"consumer": each.name, "state": each.state}) for each in manager.status()]

    meter.create_observable_gauge("sa_eventsource.lag.events", [lag_events], "{event}", "Events that are yet to be taken.")
    meter.create_observable_gauge("sa_eventsource.lag.time", [lag_time], "s", "How long ago the oldest of them was recorded.")


def _described(observed: observation.Observation) -> dict[str, str | int]:
    return {"sa_eventsource.subject": observed.subject, "sa_eventsource.events": observed.events}
