"""OpenTelemetry: what an application sees of appends, loads, catch-up and rebuilds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.semconv.schemas import Schemas
from sqlalchemy import Engine, MetaData, event, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from sa_eventsource import EventReplayer, ReadModelManager, Worker, event_context
from sa_eventsource.observation import _observers
from sa_eventsource.telemetry import instrument, observe_lag, trace_events
from tests.bank import Deposited
from tests.projections.bank import Account, Balance, Base, deposit
from tests.statement_log import record_statements


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

    def span(self, name: str) -> ReadableSpan:
        """The one span of a name."""
        (found,) = (each for each in self.exporter.get_finished_spans() if each.name == name)
        return found

    def points(self, name: str) -> dict[tuple[Any, ...], Any]:
        """Data points of a metric by the values of their attributes."""
        data: Any = self.reader.get_metrics_data()
        return {
            tuple((point.attributes or {}).values()): point
            for resource in (data.resource_metrics if data is not None else ())
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
def tables() -> MetaData | None:
    return Base.metadata


@pytest.fixture
def bank(engine: Engine) -> Engine:
    return engine


def test_appends_and_loads_are_spans(bank: Engine, seen: Seen) -> None:
    deposit(bank, "a", 1, 2)
    assert seen.spans() == [("load bank.Account", "bank.Account", 0), ("append bank.Account", "bank.Account", 2)]
    deposit(bank, "b", 4)
    seen.spans()
    with Session(bank) as session:
        session.get_one(Account, "a")
        session.scalars(select(Account)).all()
    assert seen.spans() == [("load bank.Account", "bank.Account", 2), ("load bank.Account", "bank.Account", 3)]


def test_statements_run_within_the_span(bank: Engine, seen: Seen) -> None:
    parents = []

    @event.listens_for(bank, "before_cursor_execute")
    def watch(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO events"):
            with seen.tracers.get_tracer("driver").start_as_current_span("INSERT") as span:
                parents.append(span)

    deposit(bank, "a", 1)
    append = next(span for span in seen.exporter.get_finished_spans() if span.name == "append bank.Account")
    (statement,) = (span for span in seen.exporter.get_finished_spans() if span.name == "INSERT")
    assert statement.parent is not None
    assert append.context is not None
    assert statement.parent.span_id == append.context.span_id


def test_catching_up_is_a_span_where_events_are_taken(bank: Engine, seen: Seen) -> None:
    deposit(bank, "a", 1, 2)
    seen.spans()
    Worker(bank, Base, only=["balance"]).run_once()
    assert seen.spans() == [("catch_up balance", "balance", 2)]
    Worker(bank, Base, only=["balance"]).run_once()
    assert seen.spans() == []
    EventReplayer(bank, Base).rebuild(Balance)
    assert seen.spans() == [("rebuild balance", "balance", 2)]


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
        with pytest.raises(Exception, match="events") as caught:
            session.flush()
    assert "parameters hidden" not in str(caught.value)  # who caught it reads it whole
    (span,) = seen.exporter.get_finished_spans()
    assert span.name == "append bank.Account"
    assert span.status.status_code.name == "ERROR"
    assert not str(span.status.description).startswith("ProgrammingError")  # the attribute has the type
    (recorded,) = span.events
    assert "parameters hidden" in str((recorded.attributes or {})["exception.message"])
    assert str((span.attributes or {})["error.type"]).startswith("sqlalchemy.exc.")
    (failed,) = [key for key in seen.points("sa_eventsource.duration") if key[0] == "append"]
    assert failed[2] == (span.attributes or {})["error.type"]


def test_the_lag_is_asked_for_when_metrics_are_collected(bank: Engine) -> None:
    found = Seen()
    observe_lag(ReadModelManager(bank, Base), found.meters)
    deposit(bank, "a", 1, 2)
    assert found.points("sa_eventsource.lag.events")["balance", "new"].value == 2
    Worker(bank, Base, only=["balance"]).run_once()
    assert found.points("sa_eventsource.lag.events")["balance", "running"].value == 0
    assert found.points("sa_eventsource.lag.time")["stopping", "new"].value >= 0
    found.meters.shutdown()


def test_catching_up_is_linked_to_the_traces_that_wrote_the_events(bank: Engine, seen: Seen) -> None:
    tracer = seen.tracers.get_tracer("application")
    written = set()
    for owner in ("a", "b"):
        with tracer.start_as_current_span("command") as command, trace_events():
            deposit(bank, owner, 1, 2)
        written.add((command.get_span_context().trace_id, command.get_span_context().span_id))
    deposit(bank, "c", 1)
    Worker(bank, Base, only=["balance"]).run_once()
    (span,) = [each for each in seen.exporter.get_finished_spans() if each.name == "catch_up balance"]
    assert {(link.context.trace_id, link.context.span_id) for link in span.links} == written
    appends = [each for each in seen.exporter.get_finished_spans() if each.name == "append bank.Account"]
    assert [each.kind.name for each in (*appends, span)] == ["CLIENT", "CLIENT", "CLIENT", "CONSUMER"]
    assert (span.attributes or {})["messaging.batch.message_count"] == 5
    assert (span.attributes or {})["messaging.consumer.group.name"] == "balance"


def test_a_trace_that_is_none_is_no_link(bank: Engine, seen: Seen) -> None:
    with trace_events(), event_context(tracestate="x"):
        deposit(bank, "a", 1)
    with event_context(traceparent="not one"):
        deposit(bank, "a", 2)
    Worker(bank, Base, only=["balance"]).run_once()
    (span,) = [each for each in seen.exporter.get_finished_spans() if each.name == "catch_up balance"]
    assert not span.links


def test_an_event_that_cannot_be_taken_is_a_span_with_its_error(bank: Engine, seen: Seen) -> None:
    deposit(bank, "a", -1)
    Worker(bank, Base, only=["stopping"]).run_once()
    failed = [each for each in seen.exporter.get_finished_spans() if each.name == "catch_up stopping"]
    assert failed
    assert all(str((each.attributes or {})["error.type"]).endswith("ReadModelError") for each in failed)


def test_a_collection_asks_the_database_once(bank: Engine) -> None:
    found, manager = Seen(), ReadModelManager(bank, Base)
    with record_statements(bank) as once:
        manager.status()
        manager.commands()
    observe_lag(manager, found.meters)
    for _ in range(2):
        with record_statements(bank) as collected:
            assert found.points("sa_eventsource.lag.events")
        assert collected == once
    found.meters.shutdown()


def test_a_collection_waits_once_for_a_database_that_is_away(
    bank: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found, asked = Seen(), list[int]()
    manager = ReadModelManager(bank, Base)

    def ask() -> Any:
        asked.append(1)
        raise OperationalError("SELECT 1", {}, Exception("connection refused"))

    monkeypatch.setattr(manager, "status", ask)
    observe_lag(manager, found.meters)
    for times in (1, 2):
        assert not found.points("sa_eventsource.lag.events")
        assert len(asked) == times
    assert "connection refused" in caplog.text
    monkeypatch.undo()
    assert found.points("sa_eventsource.lag.events")
    found.meters.shutdown()


def test_an_append_is_linked_to_the_trace_in_which_its_events_happened(bank: Engine, seen: Seen) -> None:
    tracer = seen.tracers.get_tracer("application")
    with Session(bank) as session:
        session.add(account := Account(id="a"))
        with tracer.start_as_current_span("command") as command, trace_events():
            account.apply_event(Deposited(amount=1))
        session.commit()
    append = seen.span("append bank.Account")
    assert append.parent is None
    (link,) = append.links
    assert link.context.span_id == command.get_span_context().span_id


def test_spans_have_the_correlation_id_that_all_their_events_have(bank: Engine, seen: Seen) -> None:
    correlation_id = uuid4()
    with event_context(correlation_id=correlation_id):
        deposit(bank, "a", 1, 2)
    Worker(bank, Base, only=["balance"]).run_once()
    for name in ("append bank.Account", "catch_up balance"):
        assert (seen.span(name).attributes or {})["messaging.message.conversation_id"] == str(correlation_id)
    seen.exporter.clear()
    deposit(bank, "b", 1)
    with event_context(correlation_id=correlation_id):
        deposit(bank, "c", 1)
    Worker(bank, Base, only=["balance"]).run_once()
    assert "messaging.message.conversation_id" not in (seen.span("catch_up balance").attributes or {})


def test_an_event_that_cannot_be_taken_leads_to_the_trace_that_wrote_it(bank: Engine, seen: Seen) -> None:
    tracer = seen.tracers.get_tracer("application")
    with tracer.start_as_current_span("command") as command, trace_events():
        deposit(bank, "a", -1)
    Worker(bank, Base, only=["stopping"]).run_once()
    failed = [each for each in seen.exporter.get_finished_spans() if each.name == "catch_up stopping"]
    assert failed
    for each in failed:
        assert [link.context.span_id for link in each.links] == [command.get_span_context().span_id]


def test_a_flush_of_several_aggregates_of_one_type_has_their_type(bank: Engine, seen: Seen) -> None:
    with Session(bank) as session:
        for id_ in ("a", "b"):
            session.add(account := Account(id=id_))
            account.apply_event(Deposited(amount=1))
        session.commit()
    assert seen.spans() == [("append bank.Account", "bank.Account", 2)]


def test_a_sampler_sees_what_a_span_is_about(bank: Engine) -> None:
    offered = dict[str, Any]()

    class Watching(Sampler):
        def should_sample(
            self,
            parent_context: Any,
            trace_id: int,
            name: str,
            kind: Any = None,
            attributes: Any = None,
            links: Any = None,
            trace_state: Any = None,
        ) -> SamplingResult:
            offered[name] = dict(attributes or {})
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "watching"

    stop = instrument(TracerProvider(sampler=Watching()), MeterProvider())
    deposit(bank, "a", 1)
    Worker(bank, Base, only=["balance"]).run_once()
    stop()
    assert offered["append bank.Account"]["messaging.destination.name"] == "bank.Account"
    assert offered["catch_up balance"]["messaging.operation.type"] == "process"


def test_attributes_have_the_names_of_the_semantic_conventions(bank: Engine, seen: Seen) -> None:
    known = {
        value for module in (messaging_attributes, error_attributes) for value in vars(module).values() if isinstance(value, str)
    }
    types = {each.value for each in messaging_attributes.MessagingOperationTypeValues}
    with event_context(correlation_id=uuid4()):
        deposit(bank, "a", -1)
    Worker(bank, Base).run_once()
    used = set()
    for span in seen.exporter.get_finished_spans():
        attributes = dict(span.attributes or {})
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.schema_url in {each.value for each in Schemas}
        assert attributes.get("messaging.operation.type") in {*types, None}
        used |= {name for name in attributes if not name.startswith("sa_eventsource.")}
    assert "error.type" in used
    assert "messaging.consumer.group.name" in used
    assert used <= known
