"""A template database with the tables, and a clone of it for each test that commits."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import sessionmaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session


@contextmanager
def template(server_url: str, create_tables: Callable[[Engine], None]) -> Iterator[TemplateDatabase]:
    """Make a template database on a server, and drop it at the end."""
    made = TemplateDatabase(server_url)
    try:
        made.furnish(create_tables)
        yield made
    finally:
        made.close()


class TemplateDatabase:
    """The template of one process, with what is cloned from it."""

    def __init__(self, server_url: str) -> None:
        """Connect to the server."""
        self._server_url = make_url(server_url)
        self._admin = create_engine(self._server_url, isolation_level="AUTOCOMMIT")
        self._name = f"eventsource_{uuid4().hex}"
        self._shared: str | None = None

    def furnish(self, create_tables: Callable[[Engine], None]) -> None:
        """Create the database, and its tables."""
        self._execute(f"CREATE DATABASE {self._name} TEMPLATE template0")
        with engine(self._url(self._name)) as made:
            create_tables(made)

    @contextmanager
    def clone(self) -> Iterator[str]:
        """Make a database that is like the template, for the block: its URL."""
        name = self._clone()
        try:
            yield self._url(name)
        finally:
            self._drop(name)

    def shared(self) -> str:
        """Get the URL of the database for all tests that roll back what they do."""
        if self._shared is None:
            self._shared = self._clone()
        return self._url(self._shared)

    def close(self) -> None:
        """Drop the databases."""
        for name in (self._shared, self._name):
            if name is not None:
                self._drop(name)
        self._admin.dispose()

    def _clone(self) -> str:
        name = f"eventsource_{uuid4().hex}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {self._name}")
        return name

    def _drop(self, name: str) -> None:
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(statement))

    def _url(self, name: str) -> str:
        return self._server_url.set(database=name).render_as_string(hide_password=False)


@contextmanager
def engine(url: str) -> Iterator[Engine]:
    """Make an engine for the block."""
    made = create_engine(url)
    try:
        yield made
    finally:
        made.dispose()


def session_maker(bind: Engine) -> sessionmaker[Session]:
    """Make what makes sessions."""
    return sessionmaker(bind)


def sync_engine_of(bind: Any) -> Engine:
    """Get the engine itself, or the one within an asynchronous engine."""
    found: Engine = getattr(bind, "sync_engine", bind)
    return found
