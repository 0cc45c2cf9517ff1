"""In which state a connection is: whether it writes in a transaction, and where to ask questions when its transaction is gone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sa_eventsource.exceptions import AutocommitError, JoinedTransactionError
from sa_eventsource.mapping import TENANT_SETTING
from sa_eventsource.store.databases import database_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from weakref import ref

    from sqlalchemy import Engine
    from sqlalchemy.engine import Dialect
    from sqlalchemy.orm import SessionTransaction

    from sa_eventsource.mapping import EventSourceTables

_AUTOCOMMIT = "AUTOCOMMIT"


class Said(NamedTuple):
    """Whose a transaction was said to be.

    Attributes:
        tenant: The tenant.
        transaction: Gives the transaction, for as long as there is one.
        by: Give the transactions of the sessions that have said so, likewise.
    """

    tenant: str
    transaction: ref[Any]
    by: tuple[ref[SessionTransaction], ...]


def is_in_use(by: ref[SessionTransaction]) -> bool:
    """Check whether a session is still in a transaction of its own."""
    transaction = by()
    return transaction is not None and transaction.is_active


SAID = "sa_eventsource.tenant_said"
"""Execution option of a connection: what was said for its present transaction, or for its last one."""


def is_in_autocommit(connection: Connection) -> bool:
    """Check whether each statement on a connection is a transaction of its own.

    SQLAlchemy knows what it was told; the driver's connection knows what a ``connect`` or ``checkout`` hook has set.
    """
    option = connection.get_execution_options().get("isolation_level")
    if option is not None:
        return bool(option == _AUTOCOMMIT)
    driver: Any = connection.connection.dbapi_connection
    if getattr(driver, "autocommit", None) is False:  # the usual answer, which no more calls are spent on
        return False
    return database_of(connection.dialect).is_autocommitting(driver)


def require_transaction(connection: Connection) -> None:
    """Refuse a connection on which nothing could be undone.

    Raises:
        AutocommitError: It is in autocommit mode.
    """
    if is_in_autocommit(connection):
        raise AutocommitError(repr(connection.engine.url))


def autoflush(session: Session) -> None:
    """Flush before something is read, as a query does: not where autoflush is off, and not where a hook of a flush reads."""
    session._autoflush()  # noqa: SLF001 - SQLAlchemy 2.0 does not by itself for a statement without entities


def flush_first(session: Session) -> None:
    """Flush before something is written or locked; not where a hook of a flush does that, which sees what is written so far."""
    if not session._flushing:  # noqa: SLF001 - what SQLAlchemy's own autoflush asks; nothing public tells
        session.flush()


def require_own_transaction(session: Session, bind_arguments: dict[str, Any]) -> None:
    """Refuse a session whose next transaction would be a part of another one, where several transactions write at a time.

    Args:
        session: A session without a transaction in progress.
        bind_arguments: What shows a session with several binds which to use.

    Raises:
        JoinedTransactionError: It is bound to a connection that is in a transaction.
    """
    bind = session.get_bind(**bind_arguments)
    if isinstance(bind, Connection) and bind.in_transaction() and not database_of(bind.dialect).has_one_writer:
        raise JoinedTransactionError(repr(bind.engine.url))


def roll_back(session: Session) -> None:
    """Roll a session back whose transaction has failed; where that fails too, as the connection is closed, give the connection up.

    Why the transaction has failed is not to be lost to that.
    """
    try:
        session.rollback()
    except DBAPIError:
        session.invalidate()


def asking_options(session: Session, tables: EventSourceTables, bind_arguments: dict[str, Any]) -> dict[str, Any]:
    """Give the options of a connection for a single question: without a transaction, unless that is needed to say whose it is."""
    return {} if tables.options.tenants else dict(database_of(session.get_bind(**bind_arguments).dialect).without_transaction)


@contextmanager
def after_rollback(session: Session, connection: Connection) -> Iterator[Connection | None]:
    """Give a connection on which to find out why a session's transaction failed, once it is rolled back; None where there is none.

    What is begun for it ends with the block. Where the application holds the transaction (``with engine.begin() as connection``),
    SQLAlchemy lets nothing more run on that connection until its block ends; a second ``Connection`` on the same connection of the
    driver may, and sees what others have committed. It has the options of the first one, and the application's hooks have set its
    transaction up as they do those of the session, so that it asks the same schema, as the same tenant.
    """
    if connection.closed or connection.invalidated:
        yield None
        return
    if connection.in_transaction():
        yield connection
        return
    aside = Connection(connection.engine, connection=connection.connection)
    try:
        options = _lasting_options(connection)
        said: Said | None = options.pop(SAID, None)
        aside.execution_options(**options if said is None else {**options, TENANT_SETTING: said.tenant})
        with aside.begin() as transaction:
            try:
                call_begin_hooks(session, aside)
                answers: Connection | None = aside
            except Exception:  # noqa: BLE001 - the application's own; what it would have set up is not known, nor then what is there
                answers = None
            yield answers
            transaction.rollback()
    finally:
        del aside  # not closed: that would give the driver's connection back to the pool


@contextmanager
def beside(session: Session, bind_arguments: dict[str, Any]) -> Iterator[Connection]:
    """Give another connection to a session's database, in a transaction that is set up as the session's own.

    The transaction ends with the block.

    What a session has from ``session.connection(execution_options=...)`` applies to its present transaction alone, and is left out.
    """
    bind = session.get_bind(**bind_arguments)
    options = {**_lasting_options(bind), **_lasting(getattr(session, "execution_options", {}), bind.dialect)}
    with bind.engine.connect().execution_options(**options) as connection, connection.begin() as transaction:
        call_begin_hooks(session, connection)
        yield connection
        transaction.rollback()


def call_begin_hooks(session: Session, connection: Connection) -> None:
    """Have a session's ``after_begin`` hooks set up a transaction that is not the session's, such as its ``search_path``."""
    hooks: Any = session.dispatch.after_begin
    if hooks:
        hooks(session, session.get_transaction() or Session(connection).begin(), connection)


def _lasting_options(bind: Engine | Connection) -> dict[str, Any]:
    return _lasting(bind.get_execution_options(), bind.dialect)


def _lasting(options: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Leave out what is set on the driver's connection, such as the isolation level: for one transaction, or by the engine."""
    of_driver: Any = dialect
    return {name: value for name, value in options.items() if name not in of_driver.connection_characteristics}
