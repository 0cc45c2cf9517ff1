"""Rows that handlers load to change them: locked until the transaction ends, and kept as long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import inspect, select

from sa_eventsource.mapping import session_of
from sa_eventsource.store import database_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session, SessionTransaction, scoped_session

M = TypeVar("M")


def load_for_update(session: Session | scoped_session[Session], model: type[M], key: Any) -> M:
    """Load a row that a handler is about to change, made with its columns' defaults if it is not there, and locked till the end.

    Two transactions that change one row so wait for each other instead of losing an update: the row is inserted unless it exists,
    then selected ``FOR UPDATE``. A row that this transaction has locked already is returned as it is, without a statement. At
    REPEATABLE READ and above, a row that another transaction has changed in the meantime raises a serialization failure, which
    ``retry_on_conflict`` retries. On SQLite, where writers are alone, nothing is locked. Load the rows of several keys in one order
    everywhere; two that lock each other's rows end in a deadlock, which is retried too.

    Args:
        session: The session that the handler got.
        model: The mapped class, which has a table of its own.
        key: The primary key's value, or a tuple of several in the order of the columns.

    Raises:
        IntegrityError: A column without a default must not be null. Give it one in ``mapped_column(default=...)``.
        OperationalError: A serialization failure or a deadlock. Roll back and retry.
    """
    session = session_of("load_for_update()", session)
    mapper = inspect(model)
    identity = tuple(key) if isinstance(key, tuple) else (key,)
    identity_key = mapper.identity_key_from_primary_key(identity)
    present = session.identity_map.get(identity_key)
    transaction = session.get_nested_transaction() or session.get_transaction()
    if present is not None and any(identity_key in _locked.get(each, ()) for each in _with_parents(transaction)):
        return present  # type: ignore[no-any-return]
    connection = session.connection(bind_arguments={"mapper": mapper})
    values = {column.key: value for column, value in zip(mapper.primary_key, identity, strict=True)}
    criteria = [column == value for column, value in zip(mapper.primary_key, identity, strict=True)]
    statement = select(model).where(*criteria).with_for_update().execution_options(populate_existing=True)
    row = session.scalars(statement).one_or_none()
    if row is None:
        insert = database_of(connection.dialect).insert(mapper.local_table)
        connection.execute(insert.values(values).on_conflict_do_nothing())
        row = session.scalars(statement).one()
    transaction = session.get_nested_transaction() or session.get_transaction()
    if transaction is not None:
        _locked.setdefault(transaction, {})[identity_key] = row
    return row


# A lock ends with the transaction, or the savepoint, that took it. The rows are kept as long: a session lets go of those that it
# has flushed, and would select and update them again for each event.
_locked: WeakKeyDictionary[SessionTransaction, dict[Any, Any]] = WeakKeyDictionary()


def forget_rows(session: Session) -> None:
    """Let go of all rows in the middle of a transaction; those that are asked for again are selected again."""
    session.expunge_all()
    transaction = session.get_transaction()
    if transaction is not None:
        _locked.pop(transaction, None)


def _with_parents(transaction: SessionTransaction | None) -> Iterator[SessionTransaction]:
    while transaction is not None:
        yield transaction
        transaction = transaction.parent
