"""A statement that is all of a transaction: PostgreSQL begins and commits that by itself, in one round trip instead of three.

SQLAlchemy's transaction begins and ends as ever; the driver sends neither BEGIN nor COMMIT, as the server knows of nothing to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from sa_eventsource.store.databases import database_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, CursorResult

    from sa_eventsource.store.driver_statement import DriverStatement


def can_execute_alone(connection: Connection) -> bool:
    """Check whether the server could commit the next statement by itself.

    It could not where something has begun on the server, where an option goes with BEGIN, and where the engine has listeners: they
    may send statements of their own, before this one or at the commit.

    Args:
        connection: In a transaction of SQLAlchemy's.
    """
    is_heard = connection._has_events or connection.engine._has_events  # noqa: SLF001 - as SQLAlchemy asks
    return not is_heard and database_of(connection.dialect).can_commit_alone(connection)


def execute_alone(statement: DriverStatement, connection: Connection, parameters: Mapping[str, Any]) -> CursorResult[Any]:
    """Execute a statement that is all that its transaction does; the server commits it.

    Args:
        statement: It changes all that it is to change or nothing: nothing can be rolled back.
        connection: One for which :func:`can_execute_alone`; the commit of SQLAlchemy's transaction follows.
        parameters: As for :meth:`DriverStatement.execute`.

    Raises:
        DBAPIError: The database refused the statement. Where the connection was lost, nobody knows whether it is committed, as is
            so for any COMMIT: a note on the error says so.
    """
    driver: Any = connection.connection.dbapi_connection
    try:
        driver.autocommit = True
        return statement.execute(connection, parameters)
    except DBAPIError as error:
        if error.connection_invalidated:
            error.add_note(_UNKNOWN)
        raise
    finally:
        _leave(connection, driver)


_UNKNOWN = (
    "The connection was lost while the events were committed: nobody knows whether they are stored. Commit the same aggregate "
    "again, or ask the log: events that are stored already raise EventAlreadyAppendedError."
)


def _leave(connection: Connection, driver: Any) -> None:
    """Have the driver send BEGIN again. Where it cannot, as it is cut off, nobody is to get the connection from the pool again."""
    try:
        driver.autocommit = False
    except BaseException as error:
        if not connection.closed:
            connection.invalidate(error)
        if not driver.closed or not isinstance(error, Exception):
            raise
