"""A snapshot gives back what the events make: types, the order of dicts, zones, shared objects; else there is none."""

from __future__ import annotations

import enum
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy import Connection, Engine, MetaData, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DeclarationError, DomainEvent, SnapshotError, SnapshotWarning, applies, verify
from sa_eventsource.aggregates.state import StateFields
from tests.events.kinds_of_fields import kinds, unvalidated


class ExactBase(DeclarativeBase):
    """Base of the classes of these tests."""


class Colour(enum.IntEnum):
    """An int of another type."""

    RED = 1


class Bill(BaseModel):
    """A model whose dict has an order, and that can change."""

    lines: dict[str, Decimal] = {}


class Coin(BaseModel):
    """A model that cannot change."""

    model_config = ConfigDict(frozen=True)

    value: int


@dataclass
class Box:
    """A dataclass that can change."""

    content: list[int] = field(default_factory=list)


class Step(DomainEvent):
    """What the next state is, by its name in ``STATES``; without a name, the state goes on."""

    __event_type__ = "exact.Step"
    name: str | None = None


class Walk(AggregateRoot, ExactBase):
    """Does with its state what shows how exact it is."""

    __aggregate_type__ = "exact.Walk"
    __snapshot_frequency__ = 2

    waiting: dict[str, int] = Field(default_factory=dict)
    strict: OrderedDict[str, int] = Field(default_factory=OrderedDict)
    bill: Bill = Field(default_factory=Bill)
    other_bill: Bill | None = None
    coins: tuple[Coin, ...] = ()
    box: Box = Field(default_factory=Box)
    ratio: int | float = 0
    numbers: list[int] = Field(default_factory=list)
    more_numbers: list[int] = Field(default_factory=list)
    due: datetime | None = None
    at: time | None = None
    seen: list[Any] = Field(default_factory=list)

    @applies(Step)
    def _step(self, event: Step) -> None:
        if event.name is not None:
            for name, value in STATES[event.name]().items():
                setattr(self, name, value)
            return
        self.seen = [next(iter(each), None) for each in (self.waiting, self.strict, self.bill.lines)]
        self.seen.append(str(self.ratio))
        self.seen += [type(each).__name__ for each in (self.ratio, *self.numbers)]
        self.ratio += 1
        self.bill.lines["last"] = Decimal(1)
        self.numbers.append(7)
        self.box.content.append(7)
        if self.due is not None:
            self.due += timedelta(days=1)
            self.seen.append(self.due.astimezone(UTC).isoformat())


def _one_bill_twice() -> dict[str, Any]:
    bill = Bill()
    return {"bill": bill, "other_bill": bill}


def _one_list_twice() -> dict[str, Any]:
    numbers = [1]
    return {"numbers": numbers, "more_numbers": numbers}


def _one_list_within() -> dict[str, Any]:
    numbers = [1]
    return {"numbers": numbers, "box": Box(numbers)}


def _one_coin_twice() -> dict[str, Any]:
    coin = Coin(value=1)
    return {"coins": (coin, coin)}


STORED: dict[str, Callable[[], dict[str, Any]]] = {
    "dicts in jsonb's order": lambda: {"waiting": {"al": 1, "bob": 1}},
    "dicts in another order": lambda: {"waiting": {"charlotte": 1, "bob": 1, "al": 1}},
    "an ordered dict": lambda: {"strict": OrderedDict(charlotte=1, bob=1)},
    "a dict within a model": lambda: {"bill": Bill(lines={"bb": Decimal(1), "a": Decimal("1.00")})},
    "a float that jsonb takes for a whole number": lambda: {"ratio": 1e16},
    "a zero with a sign": lambda: {"ratio": -0.0},
    "fixed zones": lambda: {"due": datetime(2026, 3, 28, 12, tzinfo=UTC), "at": time(1, tzinfo=timezone(timedelta(hours=2)))},
    "numbers among anything": lambda: {"seen": [1.0], "waiting": {"aa": 2, "b": 1}},
    "what cannot change in two places": _one_coin_twice,
    "a text that looks like what is written": lambda: {"waiting": {'"{\\"a\\": 1}"': 1, "\\u0000": 2}},
}
NOT_STORED: dict[str, Callable[[], dict[str, Any]]] = {
    "an enumeration for a number": lambda: {"numbers": [Colour.RED]},
    "a truth value for a number": lambda: {"numbers": [True]},
    "a zone with summer time": lambda: {"due": datetime(2026, 3, 28, 12, tzinfo=ZoneInfo("Europe/Amsterdam"))},
    "a time of a zone": lambda: {"at": time(12, tzinfo=ZoneInfo("Europe/Amsterdam"))},
    "one model in two fields": _one_bill_twice,
    "one list in two fields": _one_list_twice,
    "one list within another field": _one_list_within,
}
STATES = STORED | NOT_STORED


@pytest.fixture
def tables() -> MetaData:
    return ExactBase.metadata


@pytest.fixture
def walks(engine: Engine) -> Engine:
    """Engine on a database of each kind, with the tables."""
    return engine


def walk(engine: Engine, name: str) -> tuple[int, str]:
    """Make a state, load it elsewhere and go on; tell the number of snapshots that were there, and the state at the end."""
    with Session(engine) as session:
        walk = Walk(id="w")
        for each in (name, name):
            walk.apply_event(Step(name=each))
        session.add(walk)
        session.commit()
    with Session(engine) as session:
        snapshots = session.scalar(text("SELECT count(*) FROM snapshots"))
        walk = session.get_one(Walk, "w")
        walk.apply_event(Step())
        session.commit()
        return snapshots or 0, _without_snapshots(session, walk)


def _without_snapshots(session: Session, walk: Walk) -> str:
    """Compare the state with the one that the events make."""
    from_snapshot = str(written({name: getattr(walk, name) for name in Walk.__state_fields__.names}))
    session.execute(text("DELETE FROM snapshots"))
    session.refresh(walk)
    from_events = str(written({name: getattr(walk, name) for name in Walk.__state_fields__.names}))
    session.rollback()
    assert from_snapshot == from_events
    return from_events


@pytest.mark.parametrize("name", STORED)
def test_a_state_goes_on_from_a_snapshot_as_from_its_events(walks: Engine, name: str) -> None:
    snapshots, _ = walk(walks, name)
    assert snapshots == 1
    assert verify(walks, ExactBase).findings == ()


@pytest.mark.parametrize(("name", "form"), [("dicts in jsonb's order", "object"), ("dicts in another order", "string")])
def test_a_state_is_stored_as_an_object_where_jsonb_gives_that_back(postgres_engine: Engine, name: str, form: str) -> None:
    with Session(postgres_engine) as session:
        walk = Walk(id="w")
        for each in (name, name):
            walk.apply_event(Step(name=each))
        session.add(walk)
        session.flush()
        assert session.scalar(text("SELECT jsonb_typeof(state) FROM snapshots")) == form


@pytest.mark.parametrize("name", NOT_STORED)
def test_a_state_that_would_go_on_otherwise_is_not_stored(walks: Engine, name: str) -> None:
    with pytest.warns(SnapshotWarning, match="would come back as"):
        snapshots, _ = walk(walks, name)
    assert snapshots == 0


@pytest.mark.parametrize(("name", "stored"), [("seen", [1]), ("seen", [True]), ("waiting", {"b": 1, "aa": 2})])
def test_verify_compares_types_and_orders(walks: Engine, name: str, stored: Any) -> None:
    walk(walks, "numbers among anything")
    assert verify(walks, ExactBase).findings == ()
    snapshots = ExactBase.metadata.tables["snapshots"]
    with walks.begin() as connection:
        state: Any = connection.scalar(select(snapshots.c.state))
        document = json.loads(state) if isinstance(state, str) else state
        connection.execute(snapshots.update().values(state=json.dumps({**document, name: stored})))
    (finding,) = verify(walks, ExactBase).findings
    assert finding.message.startswith(f"{name} is {stored!r} in the snapshot of version 2, and the events make it ")


def written(value: Any) -> Any:  # noqa: PLR0911 - one for each kind
    """Write all that code can see of a value; not the library's own way of telling it."""
    kind = type(value)
    match value:
        case BaseModel():
            within = (vars(value), value.__pydantic_extra__, value.__pydantic_private__)
            return kind, [
                None if each is None else sorted((name, written(entry)) for name, entry in each.items()) for each in within
            ]
        case Mapping():
            return kind, getattr(value, "default_factory", None), [(written(key), written(each)) for key, each in value.items()]
        case set() | frozenset():
            return kind, sorted(map(str, map(written, value)))
        case list() | tuple() | deque():
            return kind, getattr(value, "maxlen", None), [written(each) for each in value]
        case datetime():
            return kind, value.isoformat(), [_offset(value, days) for days in (-182, 0, 182)]
        case time():
            return kind, value.isoformat(), [_offset(datetime.combine(date(2026, month, 1), value), 0) for month in (1, 7)]
        case SecretStr():
            return kind, value.get_secret_value()
    if hasattr(kind, "__dataclass_fields__"):
        return kind, sorted((name, written(each)) for name, each in vars(value).items())
    return kind, repr(value)


def _offset(moment: datetime, days: int) -> Any:
    try:
        return (moment + timedelta(days=days)).utcoffset()
    except OverflowError:
        return None


@pytest.fixture(scope="module")
def jsonb(postgres_databases: Any) -> Iterator[Connection]:
    """A connection to PostgreSQL."""
    with postgres_databases.database() as url:
        engine = create_engine(url)
        with engine.connect() as connection:
            yield connection
        engine.dispose()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(fields=st.lists(kinds(), min_size=1, max_size=2), wrong=st.none() | unvalidated)
def test_whatever_a_state_holds_comes_back_from_jsonb_as_it_was_or_is_refused(
    jsonb: Connection, fields: list[tuple[Any, Any]], wrong: Any
) -> None:
    values = {f"f{number}": value for number, (_, value) in enumerate(fields)}
    if wrong is not None:
        values["f0"] = wrong
    annotations = {name: annotation for name, (annotation, _) in zip(values, fields, strict=True)}
    kind = type("Generated", (), {"__module__": __name__, "__annotations__": annotations, "__qualname__": "Generated"})
    try:
        state = StateFields(kind, lambda _instance: None, reserved=frozenset())
        stored = state.dump(values)
    except (DeclarationError, SnapshotError):
        return
    given_back = jsonb.scalar(text("SELECT CAST(CAST(:state AS jsonb) AS text)"), {"state": stored})
    for each in (stored, given_back):
        again = state.read(each)
        assert again is not None
        assert str(written(again)) == str(written({name: values[name] for name in sorted(values)}))
