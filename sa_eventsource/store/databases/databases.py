"""The databases that the library knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import CompileError

from sa_eventsource.store.databases.postgresql import PostgreSQL
from sa_eventsource.store.databases.sqlite import SQLite

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from sa_eventsource.store.databases.database import Database

_DATABASES: dict[str, Database] = {"postgresql": PostgreSQL(), "sqlite": SQLite()}


def database_of(dialect: Dialect | type[Dialect]) -> Database:
    """Get the door to the database that a dialect, or its class, speaks to.

    Raises:
        CompileError: It is neither PostgreSQL nor SQLite.
    """
    try:
        return _DATABASES[dialect.name]
    except KeyError:
        raise CompileError(f"sa_eventsource stores events in PostgreSQL or SQLite, not in {dialect.name}") from None
