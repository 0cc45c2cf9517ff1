"""What the twin's application does of itself, so that a twin behaves as an aggregate must: one rule for each difference.

The table in ``differences`` names them, and says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ref

from sqlalchemy import Connection, event, inspect
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, object_session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql.dml import UpdateBase

from tests.twin.accounts import STATE, RefusedError, Twin

_WRITTEN = "written"
_FLUSHED = "flushed"


def keep_to_the_rules(session: Session) -> None:
    """Put the rules on the session of a twin."""
    event.listen(session, "before_attach", _refuse_late_additions)
    event.listen(session, "before_flush", _refuse_deletions)
    event.listen(session, "do_orm_execute", _refuse_statements)
    event.listen(session, "before_flush", _note_what_is_written)
    event.listen(session, "after_flush", _note_what_was_flushed)
    event.listen(session, "persistent_to_transient", _restore)
    event.listen(session, "after_soft_rollback", _forget_what_was_written)
    event.listen(session, "after_transaction_end", _forget_all)


def _refuse_late_additions(session: Session, instance: Any) -> None:
    is_changed = isinstance(instance, Twin) and (inspect(instance).modified if inspect(instance).key else instance.marks)
    if is_changed and not session.is_active:
        raise RefusedError("an addition that no flush would write")


def _refuse_deletions(session: Session, *_: Any) -> None:
    if any(isinstance(each, Twin) for each in session.deleted):
        raise RefusedError("deleting an account")
    if any(isinstance(each, Twin) and inspect(each).mapper._is_orphan(inspect(each)) for each in session.dirty):
        raise RefusedError("deleting an account that is an orphan")


@event.listens_for(Twin, "before_delete")
def _refuse_deletions_of_orphans(_mapper: Any, _connection: Any, _instance: Twin) -> None:
    raise RefusedError("deleting an account that has become an orphan")


@event.listens_for(Twin, "before_insert")
def _refuse_empty_ones(_mapper: Any, _connection: Any, instance: Twin) -> None:
    if not instance.marks:
        raise RefusedError("an account without marks")


@event.listens_for(Twin, "before_insert")
@event.listens_for(Twin, "before_update")
def _refuse_autocommit(_mapper: Any, connection: Connection, _instance: Twin) -> None:
    if getattr(connection.connection.dbapi_connection, "autocommit", False) is True:
        raise RefusedError("a connection that is in no transaction")


@event.listens_for(Twin, "before_insert")
def _do_not_look_for_deletions(mapper: Any, _connection: Any, instance: Twin) -> None:
    """SQLAlchemy loads an expired instance of the same identity, to see whether it was deleted; no aggregate can have been."""
    session = object_session(instance)
    assert session is not None
    existing = session.identity_map.get(mapper.identity_key_from_instance(instance))
    if existing is not None:
        inspect(existing).expired = False


def _refuse_statements(state: ORMExecuteState) -> None:
    if isinstance(state.statement, UpdateBase):
        raise RefusedError("a statement that writes accounts")
    if state.is_select and getattr(state.statement, "_for_update_arg", None) is not None:
        raise RefusedError("FOR UPDATE on accounts")


def _note_what_is_written(session: Session, *_: Any) -> None:
    transaction = session.get_nested_transaction() or session.get_transaction()
    written: list[tuple[Any, Any, str, tuple[str, ...]]] = session.info.setdefault(_WRITTEN, [])
    accounts = [each for each in (*session.new, *session.dirty) if isinstance(each, Twin)]
    written.extend((transaction, ref(each), _id_of(each), each.marks) for each in accounts)


def _note_what_was_flushed(session: Session, *_: Any) -> None:
    transaction = session.get_nested_transaction() or session.get_transaction()
    flushed: set[tuple[Any, str]] = session.info.setdefault(_FLUSHED, set())
    changed = [each for each in session.dirty if session.is_modified(each)]
    flushed.update((transaction, _id_of(each)) for each in (*session.new, *changed) if isinstance(each, Twin))


def _id_of(account: Twin) -> str:
    identity = inspect(account).identity
    return account.id if identity is None else identity[0]  # which may be expired


def _restore(session: Session, instance: object) -> None:
    """An aggregate that becomes transient has its events and its id back, also where it, or the id alone, was expired before."""
    if isinstance(instance, Twin) and not {"id", "marks"} <= vars(instance).keys():
        for _, each, id_, marks in reversed(session.info.get(_WRITTEN, [])):
            if each() is instance:
                for name, value in (("id", id_), ("marks", marks), ("total", len(marks)), ("version", len(marks))):
                    if name not in vars(instance):
                        set_committed_value(instance, name, value)
                break


def _forget_what_was_written(session: Session, previous: SessionTransaction) -> None:
    """Forget what is undone; where it was a savepoint, an instance that was loaded since is read again."""
    undone = previous
    while (
        undone.parent is not None and not undone.nested
    ):  # a flush that fails has a transaction of its own, and undoes all of this
        undone = undone.parent
    flushed: set[tuple[Any, str]] = session.info.get(_FLUSHED, set())
    for entry in [each for each in flushed if undone in _and_parents(each[0])]:
        flushed.discard(entry)
        account = session.identity_map.get(inspect(Twin).identity_key_from_primary_key((entry[1],)))
        if account is not None and undone.nested:
            session.expire(account)
    written: list[tuple[Any, Any, str, Any]] = session.info.get(_WRITTEN, [])
    written[:] = [entry for entry in written if undone not in _and_parents(entry[0])]


def _forget_all(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info.pop(_WRITTEN, None)
        session.info.pop(_FLUSHED, None)


def _and_parents(transaction: SessionTransaction | None) -> Iterator[SessionTransaction]:
    while transaction is not None:
        yield transaction
        transaction = transaction.parent


def follow_from_one_stream(instance: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    """Name what is expired or refreshed with a part: the fields cannot be by themselves, and with the version all of them are."""
    if {"marks", "total"} & set(names):
        raise RefusedError("a part of the state")
    if "version" in names:
        return tuple({*names, *STATE} | ({"id"} - set(vars(instance))))
    return names
