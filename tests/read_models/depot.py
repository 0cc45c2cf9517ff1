"""Events with a field of every kind, and what makes the rows of one read model of them."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Session, declarative_base

from sa_eventsource import AggregateRoot, DomainEvent, EventStore, event_context, fold
from sa_eventsource.read_models import definition_of

PACKED_AT = datetime(2024, 2, 29, 23, 30, tzinfo=UTC)
"""The first of March in Amsterdam."""

REFERENCE = UUID("0190a5e5-5b8a-7c7e-8c2e-3b1f6f3f0a11")
CORRELATION = UUID("0190a5e5-5b8a-7c7e-8c2e-3b1f6f3f0a22")
CAUSATION = UUID("0190a5e5-5b8a-7c7e-8c2e-3b1f6f3f0a33")
EVENT = UUID("0190a5e5-5b8a-7c7e-8c2e-3b1f6f3f0a44")


class Channel(enum.Enum):
    """An enumeration of texts."""

    SHOP = "shop"
    WEB = "web"


class Rank(enum.IntEnum):
    """An enumeration of numbers."""

    LOW = 1
    HIGH = 2


class Address(BaseModel):
    """A model within an event."""

    model_config = ConfigDict(frozen=True)
    city: str = "Utrecht"
    number: int = 7


class Packed(DomainEvent):
    """A parcel was packed."""

    __event_type__ = "depot.Packed"
    customer_id: str = "c-1"
    weight: Decimal = Decimal("1.50")
    pieces: int = 3
    ratio: float = 0.25
    gift: bool = True
    due: date = date(2024, 3, 4)
    packed_at: AwareDatetime = PACKED_AT
    reference: UUID = REFERENCE
    channel: Channel = Channel.WEB
    rank: Rank = Rank.HIGH
    address: Address = Address()
    tags: list[str] = ["a", "b"]
    extra: dict[str, Any] = {"x": [1, None]}
    note: str | None = None


class Sent(DomainEvent):
    """It was sent."""

    __event_type__ = "depot.Sent"
    carrier: str = "mail"
    pieces: int = 1
    customer: str = "c-1"


class Lost(DomainEvent):
    """It was lost."""

    __event_type__ = "depot.Lost"


class OldWeighed(DomainEvent):
    """It was weighed, as it used to be told."""

    __event_type__ = "depot.Weighed"
    grams: int


class Weighed(DomainEvent):
    """It was weighed."""

    __event_type__ = "depot.Weighed"
    __event_version__ = 2
    kilograms: Decimal

    @classmethod
    def from_v1(cls, old: OldWeighed) -> Weighed:
        """Count in kilograms."""
        return cls(kilograms=Decimal(old.grams) / 1000)


def new_base() -> type[DeclarativeBase]:
    """Make a declarative base that has nothing yet."""

    class Base(DeclarativeBase):
        pass

    return Base


def rows(engine: Engine, model: Any, *streams: list[DomainEvent], ids: tuple[Any, ...] = ("p-1", "p-2", "p-3")) -> list[Any]:
    """Write streams of events, in a transaction each, and select the rows that a strong model has then, by their keys.

    The rows must be those of the fold.
    """
    kind: Any = type(ids[0])
    base: Any = declarative_base(metadata=model.metadata)

    class Parcel(AggregateRoot[kind], base):  # type: ignore[misc]
        __aggregate_type__ = "depot.Parcel"
        __ignored_events__ = (Packed, Sent, Lost, Weighed)

    model.metadata.create_all(engine)
    key = [part.name for part in definition_of(model).key]
    names = [part.name for part in definition_of(model).parts]
    first: UUID | None = EVENT
    dotted: Any = {"a.b": True, "request": {"ip": "::1"}}
    with Session(engine) as session:
        for name, events in zip(ids, streams, strict=False):
            parcel = Parcel(id=name)
            for event in events:
                with event_context(correlation_id=CORRELATION, causation_id=CAUSATION, user="ann", level=4, **dotted):
                    parcel.apply_event(event, occurred_at=PACKED_AT, event_id=first)
                first = None
            session.add(parcel)
            session.commit()
        found = sorted(session.scalars(select(model)), key=lambda row: [getattr(row, name) for name in key])
        folded = fold(model, EventStore(session, model).events.all())
        assert [{name: getattr(row, name) for name in names} for row in found] == [
            {name: row[name] for name in names} for row in sorted(folded.values(), key=lambda row: [row[name] for name in key])
        ]
        session.expunge_all()
        return found


def row(engine: Engine, model: Any, *events: DomainEvent) -> Any:
    """Get the only row that one stream makes."""
    (found,) = rows(engine, model, list(events))
    return found
