"""OpenTelemetry: what an application sees of appends, loads, catch-up and rebuilds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session

from sa_eventsource import EventReplayer, ReadModelManager, Worker
from sa_eventsource.observation import _observers
from sa_eventsource.telemetry import instrument, observe_lag
from tests.projections.bank import Account, Balance, Base, Deposited, deposit


class Seen:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider(metric_readers=[self.reader])

    def spans(self) -> list[tuple[str, Any, Any]]:
        """Name, subject and events of each span so far, which are then forgotten."""
        found = []
        for span in self.exporter.get_finished_spans():
            attributes = dict(span.attributes or {})
            found.append((span.name, attributes.get("sa_eventsource.subject"), attributes.get("sa_eventsource.events")))
        self.exporter.clear()
        return found

    def points(self, name: str) -> dict[tuple[Any, ...], Any]:
        """Data points of a metric by the values of their attributes."""
        data: Any = self.reader.get_metrics_data()
        return {
            tuple((point.attributes or {}).values()): point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }


@pytest.fixture
def seen() -> Iterator[Seen]:
    found = Seen()
    stop = instrument(found.tracers, found.meters)
    yield found
    stop()
    assert not _observers
    found.meters.shutdown()


@pytest.fixture
def bank(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    return engine


def test_appends_and_loads_are_spans(bank: Engine, seen: Seen) -> None:
    deposit(bank, "a", 1, 2)
    assert seen.spans() == [("sa_eventsource load", "bank.Account", 0), ("sa_eventsource append", "bank.Account", 2)]
    deposit(bank, "b", 4)
    seen.spans()
    with Session(bank) as session:
        session.get_one(Account, "a")
        session.scalars(select(Account)).all()
    assert seen.spans() == [("sa_eventsource load", "bank.Account", 2), ("sa_eventsource load", "bank.Account", 3)]


def test_statements_run_within_the_span(bank: Engine, seen: Seen) -> None:
    parents = []

    @event.listens_for(bank, "before_cursor_execute")
    def watch(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO events"):
            with seen.tracers.get_tracer("driver").start_as_current_span("INSERT") as span:
                parents.append(span)

    deposit(bank, "a", 1)
    append = next(span for span in seen.exporter.get_finished_spans() if span.name == "sa_eventsource append")
    (statement,) = (span for span in seen.exporter.get_finished_spans() if span.name == "INSERT")
    assert statement.parent is not None
    assert append.context is not None
    assert statement.parent.span_id == append.context.span_id


def test_catching_up_is_a_span_where_events_are_taken(bank: Engine, seen: Seen) -> None:
    deposit(bank, "a", 1, 2)
    seen.spans()
    Worker(bank, Base, only=["balance"]).run_once()
    assert seen.spans() == [("sa_eventsource catch_up", "balance", 2)]
    Worker(bank, Base, only=["balance"]).run_once()
    assert seen.spans() == []
    EventReplayer(bank, Base).rebuild(Balance)
    assert seen.spans() == [("sa_eventsource rebuild", "balance", 2)]


def test_durations_and_events_are_metrics(bank: Engine, seen: Seen) -> None:
    deposit(bank, "a", 1, 2)
    deposit(bank, "a", 3)
    assert seen.points("sa_eventsource.events")["append", "bank.Account"].value == 3
    durations = seen.points("sa_eventsource.duration")["append", "bank.Account"]
    assert durations.count == 2
    assert 0 < durations.sum < 60


def test_an_operation_that_fails_is_a_span_with_its_error(bank: Engine, seen: Seen) -> None:
    with Session(bank) as session:
        session.add(account := Account(id="a"))
        account.apply_event(Deposited(amount=1))
        session.connection().exec_driver_sql("DROP TABLE events")
        with pytest.raises(Exception, match="events"):
            session.flush()
    (span,) = seen.exporter.get_finished_spans()
    assert span.name == "sa_eventsource append"
    assert span.status.status_code.name == "ERROR"


def test_the_lag_is_asked_for_when_metrics_are_collected(bank: Engine) -> None:
    found = Seen()
    observe_lag(ReadModelManager(bank, Base), found.meters)
    deposit(bank, "a", 1, 2)
    assert found.points("sa_eventsource.lag.events")["balance", "new"].value == 2
    Worker(bank, Base, only=["balance"]).run_once()
    assert found.points("sa_eventsource.lag.events")["balance", "running"].value == 0
    assert found.points("sa_eventsource.lag.time")["stopping", "new"].value >= 0
    found.meters.shutdown()
