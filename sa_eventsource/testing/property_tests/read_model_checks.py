"""``read_model_laws()``: the ways to the rows of a read model agree, on an application's own model and histories."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, reject
from hypothesis import strategies as st
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sa_eventsource.aggregates import definition_of as definition_of_aggregate
from sa_eventsource.consumers import owners_of
from sa_eventsource.event_log import EventStore
from sa_eventsource.events import event_context, family, is_event, personal_fields, shown
from sa_eventsource.exceptions import DeclarationError, EventPayloadError, ReadModelError
from sa_eventsource.projections import EventReplayer, ReadModelManager
from sa_eventsource.read_models import ReadModel, ReadModelDefinition, definition_of, fold
from sa_eventsource.repository import EventSourcedRepository, ExpectedVersion
from sa_eventsource.testing.acting import FIRST_IDS
from sa_eventsource.testing.freezing import NOON
from sa_eventsource.testing.property_tests.command_calls import REFUSALS
from sa_eventsource.testing.property_tests.drawn_values import instances_of
from sa_eventsource.testing.recording import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from sa_eventsource.events import DomainEvent, RecordedEvent

Histories = st.SearchStrategy["list[RecordedEvent[Any]]"]

_EVENTS = 10
_STREAMS = 2


def read_model_laws(
    model: type[ReadModel], *, histories: Histories | None = None, settings: hypothesis.settings | None = None
) -> Callable[[Any], None]:
    """Make a test that the rows of a read model are the same, in whichever way they come about.

    Example::

        test_order_list = read_model_laws(OrderList, histories=histories_of(Order, commands=[Order.place, Order.pay]))

    It is a function that takes the fixture ``eventsource_engine``, so that pytest runs it on a database of its own. Each history is
    stored there, in transactions of some events each, and the rows are compared that

    - the fold in Python gives (:func:`projected`), where the model has no ``@handles`` methods;
    - are written in the transactions of the events, as those of a strong model;
    - are caught up with, some events at a time, as those of an eventual one;
    - a rebuild gives.

    Args:
        model: The read model. That it is strong or eventual makes no difference: it is tried as both.
        histories: Draws what happens; :func:`histories_of` makes such a strategy. By default, any events that the model takes, in
            any order, without those that the database refuses, or the model's methods by ``DomainRuleError`` or ``ValueError``.
        settings: Of Hypothesis; by default those in force, without a deadline.

    Raises:
        DeclarationError: *model* is no mapped read model, or, without *histories*, no aggregate has its events.
    """
    definition = definition_of(model)
    drawn = _any_histories(definition) if histories is None else histories
    is_any = histories is None
    given_settings = settings or hypothesis.settings()
    chosen = hypothesis.settings(
        given_settings,
        deadline=None,
        phases=[each for each in given_settings.phases if each is not Phase.explain],  # many runs, to name lines of the library's
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )

    def check_ways(eventsource_engine: Engine) -> None:
        ways = _Ways(definition, eventsource_engine)

        @chosen
        @given(drawn, st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 4))
        def agree(history: list[RecordedEvent[Any]], commits: list[int], batch_size: int) -> None:
            try:
                ways.check(history, commits, batch_size)
            except EventPayloadError:
                reject()  # no transaction stores such an event, as one whose subject is an empty text
            except ReadModelError as error:
                if is_any and isinstance(error.__cause__, (DBAPIError, *REFUSALS)):
                    reject()
                advice = " (if no commands lead to that, write histories=histories_of(...))" if is_any else ""
                raise AssertionError(f"{model.__name__} does not take what may happen{advice}: {error}") from error

        agree()

    check_ways.__doc__ = f"The ways to the rows of {model.__name__} agree."
    return check_ways


class _Ways:
    """The ways to the rows of one model, on one database."""

    def __init__(self, definition: ReadModelDefinition, engine: Engine) -> None:
        """Choose the model and the database."""
        self._definition = definition
        self._model = definition.model
        self._engine = engine

    def check(self, history: Sequence[RecordedEvent[Any]], commits: list[int], batch_size: int) -> None:
        """Store a history twice, once for a strong and once for an eventual model, and compare all ways."""
        with self._alone():
            with self._as("eventual"):
                self._forget()
                manager = ReadModelManager(self._engine, self._model)
                for number, _ in enumerate(self._store(history, commits)):
                    if number % 2:
                        manager.catch_up(self._model, batch_size=batch_size)
                manager.catch_up(self._model, batch_size=batch_size)
                meant = self._meant()
                caught_up = self._rows()
                if meant is not None:
                    self._compare("the fold in Python", meant, "catching up", caught_up)
                EventReplayer(self._engine, self._model).rebuild(self._model)
                self._compare("catching up", caught_up, "a rebuild", self._rows())
            with self._as("strong"):
                self._forget()
                for _ in self._store(history, commits):
                    pass
                self._compare("catching up", caught_up, "writing in the same transaction", self._rows())
            self._forget()

    def _store(self, history: Sequence[RecordedEvent[Any]], commits: list[int]) -> Iterator[None]:
        """Append events in transactions of some each."""
        rest, number = list(history), 0
        while rest:
            size = commits[number % len(commits)]
            now, rest, number = rest[:size], rest[size:], number + 1
            with Session(self._engine) as session:
                for each in now:
                    self._append(session, each)
                session.commit()
            yield

    def _append(self, session: Session, recorded: RecordedEvent[Any]) -> None:
        aggregate_class = self._definition.tables.aggregate_classes[recorded.aggregate_type]
        typed_id = definition_of_aggregate(aggregate_class).typed_id(recorded.aggregate_id)
        ids = {"correlation_id": recorded.correlation_id, "causation_id": recorded.causation_id}
        with event_context(**{**_subjects(type(recorded.event)), **recorded.metadata, **ids}):  # type: ignore[arg-type]
            EventSourcedRepository(session, aggregate_class).append(
                typed_id, [recorded.event], expected_version=ExpectedVersion.ANY, occurred_at=recorded.occurred_at
            )

    def _meant(self) -> dict[Any, dict[str, Any]] | None:
        if self._definition.handlers:
            return None
        with Session(self._engine) as session:
            rows = fold(self._model, EventStore(session, self._model).events.all())
        return {key if isinstance(key, tuple) else (key,): row for key, row in rows.items()}

    def _rows(self) -> dict[Any, dict[str, Any]]:
        names = [each.key for each in inspect(self._model).column_attrs]
        with Session(self._engine) as session:
            return {
                inspect(row).identity: {name: getattr(row, name) for name in names} for row in session.scalars(select(self._model))
            }

    def _compare(self, one: str, rows: Mapping[Any, dict[str, Any]], other: str, others: Mapping[Any, dict[str, Any]]) -> None:
        lines = []
        for key in [*rows, *(each for each in others if each not in rows)]:
            mine, its = rows.get(key), others.get(key)
            if mine is None or its is None:
                lines.append(f"  row {key}: only by {one if its is None else other}")
                continue
            names = [name for name in mine if name in its]
            lines += [
                f"  {name} of row {key}: {shown(mine[name])} by {one}, {shown(its[name])} by {other}"
                for name in names
                if mine[name] != its[name]
            ]
        if lines:
            raise AssertionError("\n".join([f"{self._model.__name__}: {one} and {other} give different rows", *lines]))

    @contextmanager
    def _as(self, consistency: Any) -> Iterator[None]:
        """Have the model be of a consistency for the block."""
        definition = self._definition
        before = definition.consistency, definition.shards
        definition.consistency, definition.shards, definition.statements = consistency, 1, {}
        try:
            yield
        finally:
            definition.consistency, definition.shards = before
            definition.statements = {}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Leave other models of the base out of it for the block."""
        models = self._definition.tables.read_models
        before = dict(models)
        models.clear()
        models[self._definition.name] = self._definition
        try:
            yield
        finally:
            models.clear()
            models.update(before)

    def _forget(self) -> None:
        """Empty the log and the rows."""
        tables = self._definition.tables
        emptied = [tables.events, tables.projections, tables.snapshots, tables.projection_positions, tables.parked_events]
        emptied += [self._definition.table] if self._definition.has_own_table else []
        with self._engine.begin() as connection:
            names = ", ".join(_quoted(connection, each) for each in emptied)
            connection.execute(text("SET LOCAL sa_eventsource.allow_event_changes = on"))
            connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))


def _subjects(event_class: type[DomainEvent]) -> dict[str, str]:
    """Make the entries of the metadata that say whose personal data an event has."""
    fields = personal_fields(event_class)
    if "metadata" in fields.names:
        return {}
    return {".".join(each.subject[1:]): "somebody" for each in fields.own if each.subject[0] == "metadata"}


def _quoted(connection: Connection, table: Any) -> str:
    return connection.dialect.identifier_preparer.format_table(table)


def _any_histories(definition: ReadModelDefinition) -> Histories:
    """Draw any events of a model, in any order, of two streams of each aggregate that has them."""
    named = definition.named_classes
    choices: dict[tuple[str, str], st.SearchStrategy[DomainEvent]] = {}
    for aggregate_class in owners_of(definition.tables, named):
        owner = definition_of_aggregate(aggregate_class)
        if not definition.takes_from(owner.aggregate_type):
            continue
        taken = {member for each in named for member in (*([each] if is_event(each) else ()), *family(each))}
        known = [each for each in sorted(taken, key=lambda each: each.__event_type__) if _knows(owner, each)]
        first = FIRST_IDS[owner.id_type]
        for number in range(1, _STREAMS + 1):
            choices[owner.aggregate_type, f"{first[:-1]}{number}"] = st.one_of(*map(instances_of, known))
    if not choices:
        raise DeclarationError(
            f"no aggregate has the events of {definition.model.__name__}: import its module, or give read_model_laws(histories=...)"
        )
    return _histories_of_streams(choices)


@st.composite
def _histories_of_streams(
    draw: st.DrawFn, choices: dict[tuple[str, str], st.SearchStrategy[DomainEvent]]
) -> list[RecordedEvent[Any]]:
    log, moment = MemoryLog(), NOON
    for _ in range(draw(st.integers(0, _EVENTS))):
        moment += draw(st.timedeltas(timedelta(0), timedelta(days=40)))
        stream = draw(st.sampled_from(sorted(choices)))
        log.record(stream, draw(choices[stream]), moment)
    return log.events


def _knows(owner: Any, event_class: type[DomainEvent]) -> bool:
    taken = owner.handlers.functions()
    return any(base in taken for base in event_class.__mro__)
