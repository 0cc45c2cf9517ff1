"""What state a snapshot can hold; what does not fit is absent: the events give the state as well."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, field_validator
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateNotFoundError, AggregateRoot, DomainEvent, EventSourcedRepository, SnapshotWarning, applies
from tests.session.helpers import stored_events


class ValuesBase(DeclarativeBase):
    """Base of the classes of these tests."""


class Colour(enum.Enum):
    """An enum."""

    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    """A model."""

    name: str
    price: Decimal
    parts: tuple[Part, ...] = ()


class SampleTaken(DomainEvent):
    """A sample of values; which one is told by its number."""

    __event_type__ = "values.SampleTaken"
    number: int


SAMPLES: list[dict[str, Any]] = [
    {"amount": Decimal("1.10"), "number": UUID(int=7), "moment": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)},
    {"colour": Colour.BLUE, "day": date(2026, 2, 28), "pause": timedelta(days=1, microseconds=1)},
    {"part": Part(name="a", price=Decimal("0.10"), parts=(Part(name="b", price=Decimal(2)),))},
    {"pair": (1, "x"), "many": (1, 2, 3), "numbers": {3, 1}, "by_id": {UUID(int=1): [Decimal("1.0")]}},
    {"text": 'Straße 🙂 \\u0000 " \\', "data": b"\x00\xff", "half": 0.1, "whole": 2**70, "maybe": None},
    {"text": "", "maybe": 5, "many": (), "amount": Decimal("1E+3")},
]


class Sampler(AggregateRoot, ValuesBase):
    """Takes a snapshot with every event."""

    __snapshot_frequency__ = 1

    amount: Decimal = Decimal(0)
    number: UUID | None = None
    moment: datetime | None = None
    colour: Colour = Colour.RED
    day: date | None = None
    pause: timedelta = timedelta(0)
    part: Part | None = None
    pair: tuple[int, str] = (0, "")
    many: tuple[int, ...] = ()
    numbers: set[int] = Field(default_factory=set)
    by_id: dict[UUID, list[Decimal]] = Field(default_factory=dict)
    text: str = "x"
    data: bytes = b""
    half: float = 0.0
    whole: int = 0
    maybe: int | None = 1
    unset: str

    @applies(SampleTaken)
    def _taken(self, event: SampleTaken) -> None:
        for name, value in SAMPLES[event.number].items():
            setattr(self, name, value)


WRONG: list[Any] = ["text, not a number", "a\x00b", object(), "\ud800"]


class Loose(AggregateRoot, ValuesBase):
    """Sets what does not fit its annotations."""

    __snapshot_frequency__ = 1

    count: int = 0
    text: str = ""
    anything: Any = None
    when: datetime | None = None

    @applies(SampleTaken)
    def _taken(self, event: SampleTaken) -> None:
        if event.number == 0:
            self.count = WRONG[0]
        elif event.number in (1, 3):
            self.text = WRONG[event.number]
        elif event.number == 2:
            self.anything = WRONG[2]
        elif event.number == 4:
            self.anything = (1, Decimal("1.0"))
        elif event.number == 5:
            self.anything = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_state_comes_back_from_a_snapshot_as_it_was(database: Engine, number: int) -> None:
    ValuesBase.metadata.create_all(database, checkfirst=True)
    sampler = Sampler()
    sampler.apply_event(SampleTaken(number=number))
    expected = {name: value for name, value in vars(sampler).items() if name in Sampler.__state_fields__.names}
    with Session(database) as session:
        session.add(sampler)
        session.commit()
        sampler_id = sampler.id
    with Session(database) as session:
        assert session.scalar(text("SELECT count(*) FROM snapshots")) == 1
        loaded = session.get_one(Sampler, sampler_id)
        found = {name: getattr(loaded, name) for name in expected}
        assert found == expected
        assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in expected.items()}
        assert str(loaded.amount) == str(expected["amount"])
        with pytest.raises(AttributeError, match="no event has set it"):
            _ = loaded.unset


@pytest.mark.parametrize("number", range(6))
def test_state_that_would_not_come_back_is_left_out_with_a_warning(database: Engine, number: int) -> None:
    ValuesBase.metadata.create_all(database, checkfirst=True)
    loose, other = Loose(id="loose"), Sampler(id="sampler")
    loose.apply_event(SampleTaken(number=number))
    other.apply_event(SampleTaken(number=0))
    with Session(database) as session:
        session.add_all([loose, other])
        with pytest.warns(SnapshotWarning, match="no snapshot of Loose") as caught:
            session.commit()
        assert [(each.message.aggregate_class, type(each.message)) for each in caught] == [("Loose", SnapshotWarning)]  # type: ignore[union-attr]
        assert session.scalars(text("SELECT aggregate_id FROM snapshots")).all() == ["sampler"]
        session.expunge_all()
        assert session.get_one(Loose, "loose").version == 1
        assert session.get_one(Sampler, "sampler").amount == Decimal("1.10")
    assert {row[0] for row in stored_events(database)} == {"Loose", "Sampler"}


def test_an_older_snapshot_stays_usable_where_a_newer_one_is_left_out(database: Engine) -> None:
    ValuesBase.metadata.create_all(database, checkfirst=True)
    with Session(database) as session:
        loose = Loose(id="loose")
        session.add(loose)
        loose.apply_event(SampleTaken(number=99))
        session.commit()
        loose.apply_event(SampleTaken(number=0))
        with pytest.warns(SnapshotWarning, match="no snapshot of Loose"):
            session.commit()
        assert session.scalars(text("SELECT version FROM snapshots")).all() == [1]
        session.expunge_all()
        found = session.get_one(Loose, "loose")
        assert (found.version, found.count) == (2, WRONG[0])


class Strict(BaseModel):
    """A model whose validator fails in its own way once it is told to."""

    word: str = "right"

    @field_validator("word")
    @classmethod
    def _is_right(cls, value: str) -> str:
        if value == "wrong":
            raise RuntimeError("an error of the application")
        return value


class Worded(AggregateRoot, ValuesBase):
    """Takes a snapshot with every event."""

    __snapshot_frequency__ = 1

    strict: Strict = Strict()
    n: int = 0

    @applies(SampleTaken)
    def _taken(self, event: SampleTaken) -> None:
        self.n += event.number


UNFIT = {
    "a value of another type": '{"strict": {"word": "right"}, "n": "not a number"}',
    "a field too many": '{"strict": {"word": "right"}, "n": 1000, "other": 1}',
    "a field too few": '{"n": 1000}',
    "nothing": "{}",
    "null": "null",
    "a list": "[1]",
    "a number": "7",
    "a text": '"text"',
    "a validator that fails": '{"strict": {"word": "wrong"}, "n": 1000}',
}


@pytest.mark.parametrize("state", UNFIT.values(), ids=UNFIT.keys())
def test_a_snapshot_that_does_not_fit_is_as_good_as_none(database: Engine, state: str) -> None:
    ValuesBase.metadata.create_all(database, checkfirst=True)
    _store(database, {"one": 3, "two": 5})
    with database.begin() as connection:
        document = "CAST(:state AS JSONB)" if database.dialect.name == "postgresql" else ":state"
        unfit = text(f"UPDATE snapshots SET state = {document} WHERE aggregate_id = 'one'")
        connection.execute(unfit, {"state": state})
    with Session(database) as session:
        one = session.get_one(Worded, "one")
        assert (one.n, one.version, one.strict) == (3, 3, Strict())
        session.refresh(one)
        assert one.n == 3
    with Session(database) as session:
        assert {each.id: (each.n, each.version) for each in session.scalars(select(Worded))} == {"one": (3, 3), "two": (5, 5)}
        repository = EventSourcedRepository(session, Worded)
        assert [repository.load_at_version("one", version).n for version in (1, 2, 3)] == [1, 2, 3]
        assert repository.load_at_time("one", datetime.now(UTC)).n == 3
        with pytest.raises(AggregateNotFoundError):
            repository.load_at_version("one", 4)
        repository.get("one").apply_event(SampleTaken(number=10))
        session.commit()
        session.expunge_all()
        assert repository.get("one").n == 13
        assert session.scalar(text("SELECT state FROM snapshots WHERE aggregate_id = 'one'")) is not None


@pytest.mark.parametrize("state", ["", "no JSON", '{"strict": {"word": "right"}, "n": 10'])
def test_a_snapshot_that_is_no_json_is_as_good_as_none(sqlite_engine: Engine, state: str) -> None:
    ValuesBase.metadata.create_all(sqlite_engine)
    _store(sqlite_engine, {"one": 3})
    with Session(sqlite_engine) as session:
        session.execute(text("UPDATE snapshots SET state = :state"), {"state": state})
        assert session.get_one(Worded, "one").n == 3


def test_a_snapshot_ahead_of_its_stream_is_as_good_as_none_and_replaced(database: Engine) -> None:
    ValuesBase.metadata.create_all(database, checkfirst=True)
    _store(database, {"one": 3})
    ahead = """UPDATE snapshots SET version = 5, occurred_at = '2001-01-01 00:00:00.000000', state = '{"strict": {}, "n": 1000}'"""
    with Session(database) as session:
        session.execute(text(ahead))
        session.commit()
        one = session.get_one(Worded, "one")
        assert (one.n, one.version) == (3, 3)
        one.apply_event(SampleTaken(number=1))
        session.commit()
        assert session.execute(text("SELECT version FROM snapshots")).scalars().all() == [4]
        one.apply_event(SampleTaken(number=1))
        session.commit()
        session.expunge_all()
        assert session.get_one(Worded, "one").n == 5
        with pytest.raises(AggregateNotFoundError):
            EventSourcedRepository(session, Worded).load_at_time("one", datetime(2020, 1, 1, tzinfo=UTC))


def test_a_snapshot_without_a_stream_makes_no_aggregate(database: Engine) -> None:
    ValuesBase.metadata.create_all(database, checkfirst=True)
    _store(database, {"one": 1})
    with Session(database) as session:
        session.execute(text("UPDATE snapshots SET aggregate_id = 'ghost'"))
        assert session.get(Worded, "ghost") is None
        assert session.get_one(Worded, "one").n == 1


class ReadByAlias(BaseModel):
    """Its field has another name in JSON."""

    total: int = Field(default=0, alias="sum")


class WrittenByAlias(BaseModel):
    """Its field has another name in JSON that is not read."""

    total: int = Field(default=0, serialization_alias="sum")


class Aliased(AggregateRoot, ValuesBase):
    """Holds a model with an alias."""

    __snapshot_frequency__ = 1
    held: ReadByAlias = ReadByAlias()

    @applies(SampleTaken)
    def _sampled(self, event: SampleTaken) -> None:
        self.held = ReadByAlias(sum=self.held.total + event.number)


class OnlyWritten(AggregateRoot, ValuesBase):
    """Holds a model with an alias that is not read."""

    __snapshot_frequency__ = 1
    held: WrittenByAlias = WrittenByAlias()

    @applies(SampleTaken)
    def _sampled(self, event: SampleTaken) -> None:
        self.held = WrittenByAlias(total=self.held.total + event.number)


@pytest.mark.parametrize("kind", [Aliased, OnlyWritten])
def test_a_state_with_aliases_has_a_snapshot(database: Engine, kind: Any) -> None:
    ValuesBase.metadata.create_all(database, checkfirst=True)
    with Session(database) as session:
        aggregate = kind(id="one")
        aggregate.apply_event(SampleTaken(number=3))
        session.add(aggregate)
        session.commit()
        assert session.execute(text("SELECT aggregate_type FROM snapshots")).scalars().all() == [kind.__name__]
        session.expunge_all()
        assert session.get_one(kind, "one").held.total == 3


def _store(engine: Engine, numbers: dict[str, int]) -> None:
    with Session(engine) as session:
        for name, number in numbers.items():
            aggregate = Worded(id=name)
            session.add(aggregate)
            for _ in range(number):
                aggregate.apply_event(SampleTaken(number=1))
        session.commit()
