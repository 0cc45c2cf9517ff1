"""What state a snapshot can hold, and what it refuses."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import AggregateRoot, DomainEvent, SnapshotError, applies
from tests.session.helpers import state_of, stored_events


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
def test_state_that_would_not_come_back_is_refused_and_nothing_is_written(database: Engine, number: int) -> None:
    ValuesBase.metadata.create_all(database, checkfirst=True)
    loose, other = Loose(), Sampler()
    loose.apply_event(SampleTaken(number=number))
    other.apply_event(SampleTaken(number=0))
    with Session(database) as session:
        session.add_all([loose, other])
        with pytest.raises(SnapshotError) as caught:
            session.commit()
        assert caught.value.aggregate_class == "Loose"
        session.rollback()
        assert session.scalar(text("SELECT count(*) FROM snapshots")) == 0
        session.add(other)
        session.commit()
        assert state_of_set_fields(other)["amount"] == Decimal("1.10")
    assert [row[0] for row in stored_events(database)] == ["Sampler"]


def test_a_snapshot_changed_by_hand_is_an_error_that_says_what_to_do(database: Engine) -> None:
    ValuesBase.metadata.create_all(database, checkfirst=True)
    sampler = Sampler()
    sampler.apply_event(SampleTaken(number=0))
    with Session(database) as session:
        session.add(sampler)
        session.commit()
        sampler_id = sampler.id
        session.execute(text("""UPDATE snapshots SET state = '{"amount": "not a number"}'"""))
        session.commit()
        with pytest.raises(SnapshotError, match="delete the stored one"):
            session.refresh(sampler)
        session.rollback()
        session.execute(text("DELETE FROM snapshots"))
        session.commit()
        assert session.get_one(Sampler, sampler_id).amount == Decimal("1.10")


def state_of_set_fields(aggregate: Any) -> dict[str, Any]:
    """Give those state fields that have a value."""
    _ = aggregate.version
    names = [name for name in aggregate.__state_fields__.names if name != "unset"]
    return {name: getattr(aggregate, name) for name in names}


def test_helpers_agree() -> None:
    loose = Loose()
    assert state_of(loose) == state_of_set_fields(loose)
