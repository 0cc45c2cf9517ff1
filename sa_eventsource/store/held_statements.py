"""What a flush writes travels together, with the COMMIT where that follows: on engines of ``postgresql+psycopg_pipelined``.

While a flush writes events and what follows from them, statements whose answers nobody reads are held by the driver's connection,
and sent with the next one that is waited for, or at the end. Where one fails, the server skips what comes behind it, a COMMIT too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from sqlalchemy.exc import DBAPIError

from sa_eventsource.pipelined import failed_statement, held_by
from sa_eventsource.store.statements_alone import UNKNOWN, is_anyone_listening

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TypeAlias

    from sqlalchemy import Connection

    from sa_eventsource.store.append import LogAppend

    Explain: TypeAlias = Callable[[DBAPIError], BaseException]
    EndAppend: TypeAlias = Callable[[BaseException | None], None]


class Owner(NamedTuple):
    """Whose a held statement is.

    Attributes:
        explain: As for :meth:`HeldStatements.belong_to`.
        append: Likewise.
    """

    explain: Explain | None
    append: LogAppend | None


class HeldStatements:
    """What a connection holds, for a block in which a flush writes on it.

    Leaving the block by an error of the database that is a held statement's, whichever was waited for when it came, raises what
    its owner makes of it. What has not been sent then is dropped: the transaction is to be rolled back.

    Attributes:
        failed: Whose the statement was that has failed; None if none has.
        failed_to_commit: Whether it was the COMMIT.
        has_committed: Whether a COMMIT has gone along, and is done.
    """

    def __init__(self, connection: Connection, driver: Any) -> None:
        """Begin to hold what may be held."""
        self.failed: Owner | None = None
        self.failed_to_commit = False
        self.has_committed = False
        self._connection = connection
        self._driver = driver
        self._append: Any = None
        self._end_append: EndAppend | None = None
        driver.owner = None
        driver.is_holding = True

    def __enter__(self) -> Self:
        """Do nothing more."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Hold nothing any more."""
        self._driver.is_holding = False
        self._driver.owner = None
        is_unsent = self._append in self._driver.held
        self._driver.held.clear()
        found, is_of_append = self._explained(error, is_unsent=is_unsent)
        if self._end_append is not None:
            self._end_append(found if is_of_append else None)
        if found is not None and found is not error:
            raise found from error

    def _explained(self, error: BaseException | None, *, is_unsent: bool) -> tuple[BaseException | None, bool]:
        """Give the error that is to be raised, and whether the append may have failed: not so if it was answered before."""
        failed = failed_statement(error.orig) if isinstance(error, DBAPIError) else None
        if failed is None or not isinstance(error, DBAPIError):  # sent by itself, not the database's, or the connection is lost
            return error, is_unsent or not isinstance(error, Exception) or getattr(error, "connection_invalidated", False)
        self.failed_to_commit = failed.is_commit
        owner: Owner | None = failed.owner
        if owner is None:
            return error, False
        self.failed = owner
        failed.owner = None  # as it holds aggregates
        error.statement, error.params = failed.text, failed.parameters
        return error if owner.explain is None else owner.explain(error), owner.append is not None

    def belong_to(self, explain: Explain | None = None, *, append: LogAppend | None = None) -> None:
        """Say whose is what is held from now on.

        Args:
            explain: Takes the database's error, with the statement that caused it, and gives the one that is to be raised. Without
                it, that is the database's.
            append: The append whose events are written.
        """
        self._driver.owner = Owner(explain, append)

    def end_append(self, end: EndAppend) -> bool:
        """Have *end* called when the block is left, with the error of the append, which is what was held last.

        Returns:
            Whether it will be: not where nothing is held, as the append was waited for.
        """
        if not self._driver.held:
            return False
        self._append, self._end_append = self._driver.held[-1], end
        return True

    def settle(self, *, commits: bool) -> None:
        """Send what is held, and wait for all answers.

        Args:
            commits: Whether a COMMIT goes along: SQLAlchemy's, which follows, then finds nothing to end.

        Raises:
            DBAPIError: A statement failed, or the connection was lost. Where it was lost with a COMMIT on its way, nobody knows
                whether that is done: a note on the error says so.
        """
        driver = self._driver
        if not driver.held:
            return
        connection: Any = self._connection
        try:
            if commits:
                connection.connection.dbapi_connection.commit()
                self.has_committed = True
            else:
                connection.dialect.do_settle(connection.connection.dbapi_connection)
        except BaseException as error:  # noqa: BLE001 - as SQLAlchemy does around each call of the driver
            failed = failed_statement(error)
            text, parameters = (None, None) if failed is None else (failed.text, failed.parameters)
            try:
                connection._handle_dbapi_exception(error, text, parameters, None, None)  # noqa: SLF001 - what connection.commit() does
            except DBAPIError as wrapped:
                if commits and wrapped.connection_invalidated:
                    wrapped.add_note(UNKNOWN)
                raise


def can_hold(connection: Connection) -> bool:
    """Check whether a connection is one of ``postgresql+psycopg_pipelined``."""
    return hasattr(connection.dialect, "do_settle")


def hold_statements(connection: Connection) -> HeldStatements | None:
    """Begin to hold what a flush writes.

    Nobody else may send statements meanwhile but by this connection, or be told of statements or errors. So none is held where the
    engine has listeners.

    Args:
        connection: One that :func:`can_hold`.

    Returns:
        None where nothing can be held.
    """
    if is_anyone_listening(connection):
        return None
    driver: Any = held_by(connection.connection.driver_connection)
    return None if driver is None or driver.is_holding or not driver.can_hold() else HeldStatements(connection, driver)


def is_of_held(error: DBAPIError) -> bool:
    """Check whether an error is that of a statement that was held, not of the one that was waited for."""
    failed = failed_statement(error.orig)
    return failed is not None and failed.owner is not None
