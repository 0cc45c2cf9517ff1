"""The dashboard and the alert rules ask for metrics that are there, by labels that these have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from sa_eventsource import ReadModelManager, schedule
from sa_eventsource.observation import Operation, observed
from sa_eventsource.projections.status import State
from sa_eventsource.telemetry import instrument, observe_lag
from tests.commands.ordering import Base, WriteNote

MONITORING = Path(__file__).parents[2] / "docs/how-to/monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
PANELS = DASHBOARD["panels"]
GROUPS = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]] + [rule["expr"] for rule in RULES]

_SUFFIXES = {"Histogram": ("_bucket", "_count", "_sum"), "Sum": ("_total",), "Gauge": ("",)}
_BY = re.compile(r"\bby \(([^)]*)\)")
_METRIC = re.compile(r"\b(sa_eventsource_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"')
_DURATION = re.compile(r"([0-9]+(ms|[smhdwy]))+")


@dataclass
class Asked:
    """What an expression in PromQL asks for."""

    metrics: set[str]
    labels: set[str]
    values: dict[str, set[str]] = field(default_factory=dict)


def asked(expression: str) -> Asked:
    """Find metrics, labels, and the values that labels are compared with."""
    grouped = {label for labels in _BY.findall(expression) for label in re.split(r",\s*", labels)}
    found = Asked(set(), grouped)
    for metric, selector in _METRIC.findall(_BY.sub("", expression)):
        found.metrics.add(metric)
        for label, values in _MATCHER.findall(selector):
            found.labels.add(label)
            found.values.setdefault(label, set()).update(filter(None, values.split("|")))
    return found


def in_prometheus(name: str) -> str:
    return name.replace(".", "_")


@pytest.fixture(scope="module")
def labels_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """The labels of each metric, both under their names in Prometheus."""
    reader = InMemoryMetricReader()
    meters = MeterProvider(metric_readers=[reader])
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('monitoring') / 'test.db'}")
    Base.metadata.create_all(engine)
    _make_points(engine, meters)
    data: Any = reader.get_metrics_data()
    found: dict[str, set[str]] = {}
    for metric in (each for resource in data.resource_metrics for scope in resource.scope_metrics for each in scope.metrics):
        name = in_prometheus(metric.name) + ("_seconds" if metric.unit == "s" else "")
        labels = {in_prometheus(label) for point in metric.data.data_points for label in point.attributes}
        for suffix in _SUFFIXES[type(metric.data).__name__]:
            found[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    yield found
    meters.shutdown()
    engine.dispose()


def _make_points(engine: Engine, meters: MeterProvider) -> None:
    with Session(engine) as session:
        schedule(session, WriteNote(text="later"), at=datetime.now(UTC) + timedelta(days=1), base=Base)
        session.commit()
    stop = instrument(TracerProvider(), meters)
    with observed("append", "Order") as observation:
        observation.events = 1
    with suppress(ValueError), observed("append", "Order"):
        raise ValueError
    stop()
    observe_lag(ReadModelManager(engine, Base), meters)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_what_is_exported(expression: str, labels_of: dict[str, set[str]]) -> None:
    found = asked(expression)
    assert found.metrics
    for metric in found.metrics:
        assert found.labels <= labels_of[metric]


def test_each_metric_is_in_the_dashboard(labels_of: dict[str, set[str]]) -> None:
    shown = set().union(*(asked(target["expr"]).metrics for panel in PANELS for target in panel["targets"]))
    exported = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in labels_of}
    assert {name.removesuffix("_bucket").removesuffix("_count") for name in shown} == exported


def test_values_of_labels_are_those_that_there_are() -> None:
    known = {
        "sa_eventsource_state": {*get_args(State), "scheduled", "due", "overdue", "parked"},
        "sa_eventsource_operation": set(get_args(Operation)),
        "error_type": set[str](),
    }
    for expression in EXPRESSIONS:
        for label, values in asked(expression).values.items():
            assert values <= known[label]


def test_panels_are_told_apart_and_take_the_source_that_is_chosen() -> None:
    (source,) = [each["name"] for each in DASHBOARD["templating"]["list"] if each["type"] == "datasource"]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": f"${{{source}}}"}
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        x, y, width, height = (panel["gridPos"][each] for each in ("x", "y", "w", "h"))
        assert x + width <= 24
        cells = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
        assert not taken & cells
        taken |= cells


def test_legends_name_labels_that_the_expression_leaves() -> None:
    for target in (target for panel in PANELS for target in panel["targets"]):
        assert set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"])) <= asked(target["expr"]).labels


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_is_one_that_prometheus_takes(rule: dict[str, Any], labels_of: dict[str, set[str]]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
    assert re.fullmatch(r"[a-zA-Z_]\w*", rule["alert"])
    assert all(_DURATION.fullmatch(rule[each]) for each in ("for", "keep_firing_for") if each in rule)
    found = asked(rule["expr"])
    grouped = {label for labels in _BY.findall(rule["expr"]) for label in re.split(r",\s*", labels)}
    is_aggregated = re.match(r"(sum|max|min|count|avg)\b", rule["expr"]) is not None
    left = grouped if is_aggregated else set[str].intersection(*(labels_of[metric] for metric in found.metrics))
    for text in rule["annotations"].values():
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= left


def test_alerts_have_names_of_their_own() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    assert len({group["name"] for group in GROUPS}) == len(GROUPS)
