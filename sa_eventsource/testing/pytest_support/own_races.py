"""``races()`` on the database of a test."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sa_eventsource.testing.races import async_races, races

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

    from sa_eventsource.testing.races import RaceReport


def races_on(engine: Engine) -> Callable[..., RaceReport]:
    """Give ``races()`` for the sessions of an engine."""
    return partial(races, sessions=engine)


def async_races_on(sessions: async_sessionmaker[AsyncSession]) -> Callable[..., Awaitable[RaceReport]]:
    """Give ``async_races()`` for sessions that a function makes."""
    return partial(async_races, sessions=sessions)
