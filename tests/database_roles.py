"""Roles of PostgreSQL for tests: one of each kind, which may log in.

Roles belong to a whole cluster. A run has its own, as several runs may share one; they come with the first tables that need them,
and go when the run has dropped its databases.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.orm import Session

from sa_eventsource import Roles, create_roles

OWN = uuid4().hex[:8]
"""In the names of a run's roles, and their password."""


def own_roles(kind: str) -> Roles:
    """Name roles that a test creates by itself, and drops."""
    return Roles(**{name: f"{kind}_{name}_{OWN}" for name in ("app", "worker", "reader", "privacy_officer")})


ROLES = Roles(app=f'app "{OWN}"', worker=f"worker_{OWN}", reader=f"reader_{OWN}", privacy_officer=f"officer_{OWN}")
"""The roles of bases whose tests do not ask how roles come and go; the name of one has to be quoted."""

PLAIN_ROLES = own_roles("plain")
"""Likewise, with names that a pooler takes."""

ROLES_OF_THE_RUN = (*ROLES.names(), *PLAIN_ROLES.names())
"""Those that go in the end."""

TENANT = "sa_eventsource.tenant"


def grant_with_tables(base: Any) -> None:
    """Have the tables of a base come with the rights of its roles, which may log in."""

    @event.listens_for(base.metadata, "after_create")
    def grant(_metadata: object, connection: Connection, **_options: object) -> None:
        if connection.dialect.name == "postgresql":
            create_roles(connection, base)
            let_log_in(connection, *base.__eventsource__.roles.names())


def engine_as(engine: Engine, role: str) -> Engine:
    """Connect to the database of an engine as a role; the caller disposes of it."""
    return create_engine(engine.url.set(username=role, password=OWN))


@contextmanager
def connected_as(engine: Engine, role: str) -> Iterator[Engine]:
    """Connect to the database of an engine as a role."""
    other = engine_as(engine, role)
    try:
        yield other
    finally:
        other.dispose()


def session_of(engine: Engine, tenant: str) -> Session:
    """Open a session of a tenant."""
    return Session(engine, info={TENANT: tenant})


def for_tenant(engine: Engine, tenant: str) -> Engine:
    """Give an engine whose sessions are a tenant's."""
    return engine.execution_options(**{TENANT: tenant})


def let_log_in(connection: Connection, *names: str) -> None:
    """Let roles log in."""
    for name in names:
        role = connection.dialect.identifier_preparer.quote_identifier(name)
        connection.exec_driver_sql(f"ALTER ROLE {role} LOGIN PASSWORD '{OWN}'")


def drop_roles(engine: Engine, *names: str) -> None:
    """Take roles, and all their rights in this database, out of the cluster."""
    with engine.begin() as connection:
        preparer = connection.dialect.identifier_preparer
        for name in names:
            if connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": name}):
                role = preparer.quote_identifier(name)
                connection.exec_driver_sql(f"DROP OWNED BY {role}")
                connection.exec_driver_sql(f"DROP ROLE {role}")
