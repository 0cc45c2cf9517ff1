"""Fifty read models for ``benchmarks.following``, which measures what they cost while nothing happens."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, map_from_event
from sa_eventsource.read_models import sum_


class Base(DeclarativeBase):
    """Declarative base of the idle models."""


class Counted(DomainEvent):
    """The event that all follow."""

    __event_type__ = "idle.Counted"

    amount: int


class Counter(AggregateRoot[str], Base):
    """An aggregate without state."""

    __aggregate_type__ = "idle.Counter"
    __ignored_events__ = (Counted,)


def _declare(number: int) -> None:
    fields = {
        "__projection_name__": f"idle_{number:02}",
        "__annotations__": {"id": Mapped[str], "total": Mapped[int]},
        "total": map_from_event(Counted, source="amount", reduce=sum_()),
    }
    type(f"Idle{number:02}", (ReadModel, Base), {"__module__": __name__, **fields})


for _number in range(50):
    _declare(_number)
