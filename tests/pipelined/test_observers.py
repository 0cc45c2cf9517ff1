"""Observers of the library's operations, such as telemetry, learn how an append has ended, and no round trip is added for that."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import ConcurrencyError, EventSourceOptions, ReadModelError
from sa_eventsource.observation import Observation, observe
from sa_eventsource.store.append import _listeners
from sa_eventsource.telemetry import instrument
from tests.bank import AnyAccount, Opened
from tests.pipelined.accounts import Account, Audited, Note, Wallet
from tests.round_trips import round_trips

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ended(NamedTuple):
    """How an append has ended: of what, with how many events, by which error."""

    subject: str
    events: int
    error: str | None = None


class Watching:
    """An observer that notes how appends have ended, and may raise behind one."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.raises = False

    @contextmanager
    def __call__(self, observation: Observation) -> Iterator[None]:
        if observation.operation != "append":
            yield
            return
        try:
            yield
        except BaseException as error:
            self.ended.append(Ended(observation.subject, observation.events, type(error).__name__))
            raise
        self.ended.append(Ended(observation.subject, observation.events))
        if self.raises:
            raise ZeroDivisionError


@pytest.fixture
def watching() -> Iterator[Watching]:
    """Watches while the test runs."""
    found = Watching()
    stop = observe(found)
    yield found
    stop()


@pytest.fixture(params=["plain", "pipelined"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Engine of either dialect, with one connection."""
    found: Engine = request.getfixturevalue(request.param)
    return found


def _versions(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT version FROM events ORDER BY position")))


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans that the library makes while the test runs."""
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider(metric_readers=[InMemoryMetricReader()])
    stop = instrument(tracers, meters)
    yield exporter
    stop()
    meters.shutdown()


_TAKEN = {"psycopg": {Wallet: (1, 4), Account: (4, 5)}, "psycopg_pipelined": {Wallet: (1, 2), Account: (1, 2)}}
"""Round trips of a new aggregate, and of load, change, save, by driver and class."""


def test_telemetry_costs_no_round_trip(engine: Engine, spans: InMemorySpanExporter) -> None:
    for kind, (new, change) in _TAKEN[engine.url.get_driver_name()].items():
        with round_trips(engine) as sent, Session(engine) as session:
            session.add(kind.open("a-1"))
            session.commit()
        assert len(sent) == new
        with round_trips(engine) as sent, Session(engine) as session:
            session.get_one(kind, "a-1").deposit()
            session.commit()
        assert len(sent) == change
    counted = [(each.name, (each.attributes or {})["sa_eventsource.events"]) for each in spans.get_finished_spans()]
    assert counted == [(f"{what} pipelined.{kind}", 1) for kind in ("Wallet", "Account") for what in ("append", "load", "append")]
    assert all(each.status.is_unset for each in spans.get_finished_spans())
    assert _versions(engine) == [1, 2, 1, 2]


def test_an_append_that_is_refused_has_failed(engine: Engine, watching: Watching) -> None:
    for owner in ("ann", "bob"):
        with Session(engine) as session:
            session.add(Account.open("a-1", owner))
            try:
                session.commit()
            except ConcurrencyError as error:
                assert error.actual_version == 1
    assert watching.ended == [Ended("pipelined.Account", 1), Ended("pipelined.Account", 0, "AppendRefusedError")]


def test_an_append_behind_which_a_model_refuses_has_not_failed(engine: Engine, watching: Watching) -> None:
    with Session(engine) as session:
        session.add(account := Account.open("a-1"))
        account.deposit(1000)
        with pytest.raises(ReadModelError):
            session.commit()
    assert watching.ended == [Ended("pipelined.Account", 2)]
    assert _versions(engine) == []


def test_an_append_behind_which_another_statement_fails_has_not_failed(engine: Engine, watching: Watching) -> None:
    with Session(engine) as session:
        session.add(Note(id="n-1", text="one"))
        session.commit()
        session.expunge_all()
        session.add_all([Account.open("a-1"), Note(id="n-1", text="again")])
        with pytest.raises(Exception, match="pipelined_notes_pkey"):
            session.commit()
    assert watching.ended == [Ended("pipelined.Account", 1)]
    assert _versions(engine) == []


def test_an_append_behind_which_a_handler_fails_has_not_failed(engine: Engine, watching: Watching) -> None:
    with Session(engine) as session:
        session.add(Audited.open("a-1", owner="nobody"))
        with pytest.raises(ReadModelError):
            session.commit()
    assert watching.ended == [Ended("pipelined.Audited", 1)]
    assert _versions(engine) == []


def _stop(_appended: object) -> None:
    raise LookupError


def test_an_append_that_was_never_sent_has_failed(pipelined: Engine, watching: Watching) -> None:
    _listeners.insert(0, _stop)
    try:
        with Session(pipelined) as session:
            session.add(Account.open("a-1"))
            with pytest.raises(LookupError):
                session.commit()
    finally:
        _listeners.remove(_stop)
    assert watching.ended == [Ended("pipelined.Account", 0, "LookupError")]
    assert _versions(pipelined) == []


def test_an_append_whose_connection_is_lost_has_failed(pipelined: Engine, watching: Watching) -> None:
    with pipelined.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    killer = create_engine(pipelined.url)
    with killer.connect() as other:
        other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    killer.dispose()
    with Session(pipelined) as session:
        session.add(Account.open("a-1"))
        with pytest.raises(OperationalError) as caught:
            session.commit()
    assert caught.value.connection_invalidated
    assert watching.ended == [Ended("pipelined.Account", 0, "OperationalError")]


def test_an_observer_that_fails_behind_the_commit_undoes_nothing(
    pipelined: Engine, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    watching.raises = True
    with Session(pipelined) as session:
        session.add(account := Account.open("a-1"))
        session.commit()
        assert account in session
        assert not account.pending_events
    assert [(each.name, each.getMessage()) for each in caplog.records] == [
        ("sa_eventsource.observation", "an observer failed after a commit, which stays")
    ]
    assert _versions(pipelined) == [1]


def test_an_observer_that_fails_before_the_commit_undoes_the_append(
    engine: Engine, watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    watching.raises = True
    with Session(engine) as session:
        session.add(account := Account.open("a-1"))
        with pytest.raises(ZeroDivisionError):
            session.flush()
        session.rollback()
        assert [type(each) for each in account.pending_events] == [Opened]
    assert caplog.records == []
    assert _versions(engine) == []


class _Other(DeclarativeBase):
    __eventsource__ = EventSourceOptions(events="pipelined_other_events", snapshots="pipelined_other_snapshots")


class _Elsewhere(AnyAccount, _Other):
    __aggregate_type__ = "pipelined.Elsewhere"


def test_each_of_two_logs_is_observed_by_itself(engine: Engine, watching: Watching) -> None:
    _Other.metadata.create_all(engine)
    elsewhere = _Elsewhere(id="e-1")
    elsewhere.apply_event(Opened(owner="ann"))
    elsewhere.apply_event(Opened(owner="bob"))
    with Session(engine) as session:
        session.add_all([Wallet.open("w-1"), elsewhere])
        session.commit()
    assert watching.ended == [Ended("pipelined.Wallet", 1), Ended("pipelined.Elsewhere", 2)]
