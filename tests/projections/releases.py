"""Two releases of one application: the second declares its read models anew. ``RELEASE`` chooses that of a process."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, map_from_event
from sa_eventsource.read_models import count, sum_


class Sold(DomainEvent):
    """Something was sold."""

    __event_type__ = "releases.Sold"
    amount: Decimal
    country: str = "se"


def release(number: int) -> tuple[type[Any], type[Any]]:
    """Declare what release *number* does: its base and its aggregate."""

    class Base(DeclarativeBase):
        pass

    class Till(AggregateRoot[str], Base):
        __aggregate_type__ = "releases.Till"
        __ignored_events__ = (Sold,)

    if number == 1:

        class Takings(ReadModel, Base):
            __projection_name__ = "takings"

            total: Mapped[Decimal] = map_from_event(Sold, reduce=sum_("amount"))

        class Countries(ReadModel, Base):
            __tablename__ = "countries"
            __projection_name__ = "countries"

            country: Mapped[str] = map_from_event(Sold, key=True)
            total: Mapped[Decimal] = map_from_event(Sold, reduce=sum_("amount"))

    else:

        class TakingsOfTwo(ReadModel, Base):
            __projection_name__ = "takings"
            __version__ = 2

            total: Mapped[Decimal] = map_from_event(Sold, reduce=sum_("amount"))
            number: Mapped[int] = map_from_event(Sold, reduce=count())

        class CountriesOfTwo(ReadModel, Base):
            __tablename__ = "countries"
            __projection_name__ = "countries"
            __version__ = 2

            country: Mapped[str] = map_from_event(Sold, key=True)
            number: Mapped[int] = map_from_event(Sold, reduce=count())

    return Base, Till


Base, Till = release(int(os.environ.get("RELEASE", "1")))
