"""A statement that is all of a transaction: PostgreSQL begins and commits that by itself, in one round trip instead of three.

SQLAlchemy's transaction begins and ends as usual; the driver sends neither BEGIN nor COMMIT, as the server knows of nothing to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from sa_eventsource.store.databases import database_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, CursorResult
    from sqlalchemy.engine import Dialect

    from sa_eventsource.store.driver_statement import DriverStatement


def can_execute_alone(connection: Connection) -> bool:
    """Check whether the server could commit the next statement by itself.

    It could not where something has begun on the server, where an option goes with BEGIN, and where the engine has listeners: they
    may send statements of their own, before this one or at the commit, or take a failure of this one for an error.

    Args:
        connection: In a transaction of SQLAlchemy's.
    """
    return not is_anyone_listening(connection) and database_of(connection.dialect).can_commit_alone(connection)


def is_anyone_listening(connection: Connection) -> bool:
    """Check whether anyone is called for what a connection does: for its statements, its errors or the ends of its transactions."""
    is_heard = connection._has_events or connection.engine._has_events  # noqa: SLF001 - as SQLAlchemy asks
    return is_heard or _is_heard_beneath(connection.dialect)


def _is_heard_beneath(dialect: Dialect) -> bool:
    """Check whether anyone is called for statements and errors by the dialect, which takes these events from its engine."""
    if not dialect._has_events:  # noqa: SLF001
        return False
    heard: Any = dialect.dispatch
    return bool(heard.do_execute or heard.handle_error)


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
            error.add_note(UNKNOWN)
        raise
    finally:
        # Here, and not in a function of its own: as that begins, Python looks for signals, and one would leave the mode on.
        try:
            driver.autocommit = False
        except BaseException as error:
            _give_up(connection, error)
            if not driver.closed or not isinstance(error, Exception):
                raise


UNKNOWN = (
    "The connection was lost while the events were committed: nobody knows whether they are stored. Commit the same aggregate "
    "again, or ask the log: events that are stored already raise EventAlreadyAppendedError."
)


def _give_up(connection: Connection, error: BaseException) -> None:
    """Have nobody get a connection from the pool again whose driver cannot be told to send BEGIN, as it is cut off."""
    if not connection.closed:
        connection.invalidate(error)
