"""The schema that a run makes for itself, and drops."""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.schema import CreateSchema, DropSchema

from sa_eventsource.exceptions import SelftestError
from sa_eventsource.selftest.subjects import Base
from sa_eventsource.store import LOCK_NOT_AVAILABLE, code_of, message_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX = "sa_eventsource_selftest_"

_INSUFFICIENT_PRIVILEGE = "42501"
_DROP_FOR = 60.0
"""Seconds: what a killed process has left in the server ends by itself soon, and holds locks until then."""


@dataclass(frozen=True, slots=True)
class OwnSchema:
    """Where the tables of a run are, as all its processes are told.

    Attributes:
        url: SQLAlchemy URL of the database, with the password.
        connect_args: What the driver's connections take besides the URL.
        name: Of the schema.
    """

    url: str = field(repr=False)
    connect_args: Mapping[str, Any]
    name: str

    @classmethod
    def of_a_new_name(cls, url: str, connect_args: Mapping[str, Any]) -> OwnSchema:
        """Choose a name that nobody has."""
        return cls(url, connect_args, f"{PREFIX}{secrets.token_hex(6)}")

    def engine(self) -> Engine:
        """Make an engine on which the self-test's tables are in the schema, whoever pools the connections."""
        engine = create_engine(self.url, connect_args=dict(self.connect_args), pool_size=20)
        return engine.execution_options(schema_translate_map={None: self.name})


@contextmanager
def own_schema(schema: OwnSchema, *, keep: bool) -> Iterator[Engine]:
    """Make the schema and its tables for the block, and drop them when it ends, however it ends.

    Args:
        schema: Where.
        keep: Whether to leave them where they are.

    Raises:
        SelftestError: They cannot be made: the database cannot be reached, or a privilege is missing. Or they cannot be dropped;
            the message says what is left.
    """
    engine = schema.engine()
    try:
        _create(engine, schema)
        try:
            yield engine
        finally:
            if not keep:
                _drop(engine, schema)
    finally:
        engine.dispose()


def _create(engine: Engine, schema: OwnSchema) -> None:
    try:
        with engine.begin() as connection:
            connection.execute(CreateSchema(schema.name))
            Base.metadata.create_all(connection)
    except SQLAlchemyError as error:
        if code_of(error) != _INSUFFICIENT_PRIVILEGE:
            raise SelftestError(f"its schema cannot be made: {message_of(error)}") from error
        with engine.connect() as connection:
            role, database = connection.execute(select(func.current_user(), func.current_database())).one()
        quote = engine.dialect.identifier_preparer.quote
        raise SelftestError(
            f"role {role} may not make a schema in database {database}; it needs "
            f"GRANT CREATE ON DATABASE {quote(database)} TO {quote(role)}"
        ) from error


def _drop(engine: Engine, schema: OwnSchema) -> None:
    """Drop the schema; what still holds locks in it are transactions of killed processes, which end soon."""
    end = time.monotonic() + _DROP_FOR
    while True:
        try:
            with engine.begin() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '2s'"))
                connection.execute(DropSchema(schema.name, cascade=True, if_exists=True))
        except DBAPIError as error:
            if time.monotonic() < end and (code_of(error) == LOCK_NOT_AVAILABLE or error.connection_invalidated):
                continue
            raise SelftestError(
                f'its schema cannot be dropped: {message_of(error)}; later, execute DROP SCHEMA "{schema.name}" CASCADE'
            ) from error
        else:
            return
