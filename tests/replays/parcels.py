"""Parcels: the deployed code, whose text other code is made from by replacing parts of it."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import AggregateRoot, DomainEvent, applies


class Base(DeclarativeBase):
    """The declarative base."""


class ParcelSent(DomainEvent):
    """A parcel was sent."""

    __event_type__ = "replays.ParcelSent"
    to: str


class ParcelWeighed(DomainEvent):
    """A parcel was weighed."""

    __event_type__ = "replays.ParcelWeighed"
    grams: int


class Parcel(AggregateRoot, Base):
    """A parcel."""

    __aggregate_type__ = "replays.Parcel"

    to: str = ""
    grams: int = 0
    price: int = 0

    @applies(ParcelSent)
    def _sent(self, event: ParcelSent) -> None:
        self.to = event.to

    @applies(ParcelWeighed)
    def _weighed(self, event: ParcelWeighed) -> None:
        self.grams = event.grams
        self.price = 400 + event.grams // 10
