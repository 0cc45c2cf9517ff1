"""A base that has a table of commands, and nothing that follows the log."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase

from sa_eventsource import EventSourceOptions


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")
