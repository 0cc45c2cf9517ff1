"""Read models whose annotations are types, and not texts: this module has no ``from __future__ import annotations``."""

from decimal import Decimal
from typing import Optional

from sqlalchemy.orm import DeclarativeBase, Mapped

from sa_eventsource import ReadModel, map_from_event
from tests.read_models.depot import Packed


class Base(DeclarativeBase):
    """The models' base."""


class Shared(ReadModel, Base):
    """In the shared table."""

    __consistency__ = "strong"
    id: Mapped[str]
    customer_id: Mapped[str] = map_from_event(Packed)
    weight: Mapped[Decimal] = map_from_event(Packed)
    tags: Mapped[list[str]] = map_from_event(Packed)
    note: Mapped[Optional[str]] = map_from_event(Packed)  # noqa: UP045 - as older code has it


class Own(ReadModel, Base):
    """In a table of its own."""

    __tablename__ = "own"
    __consistency__ = "strong"
    customer_id: Mapped[str] = map_from_event(Packed, key=True)
    weight: Mapped[Decimal] = map_from_event(Packed)
    tags: Mapped["list[str]"] = map_from_event(Packed)
    note: Mapped[str | None] = map_from_event(Packed)
