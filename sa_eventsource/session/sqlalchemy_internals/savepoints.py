"""Savepoints that are begun while a flush is at work, by a handler of a read model or by an append in a hook."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.unitofwork import UOWTransaction

from sa_eventsource.session.sqlalchemy_internals.flushes import to_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.orm import InstanceState, Session, SessionTransaction


@contextmanager
def savepoints_begin_written(session: Session, unwritten: type[Any]) -> Iterator[None]:
    """Have savepoints within a flush begin as others do: the rollback of one undoes only what came after it.

    SQLAlchemy flushes before a savepoint, except within a flush; a rollback then drops all that is unflushed. So, in a flush, what
    was added, changed or deleted since this block began is written before a savepoint, and what the session is about to write
    besides is out of a rollback's reach while the block lasts.

    Args:
        session: The session.
        unwritten: Instances of this class are not written before a savepoint: they count among what is about to be written.
    """
    if not session._flushing:  # noqa: SLF001
        yield
        return
    present = set(to_write(session))
    hidden = _Hidden(session)
    outer = vars(session).get("begin")
    begin = session.begin

    def begin_written(nested: bool = False) -> SessionTransaction:  # noqa: FBT001, FBT002 - SQLAlchemy's signature
        if nested:
            came_up = [each for each in to_write(session) if each not in present and not issubclass(each.mapper.class_, unwritten)]
            _write_now(session, came_up)
            hidden.hide()
        return begin(nested=nested)

    vars(session)["begin"] = begin_written  # begin_nested() calls it
    try:
        yield
    finally:
        if outer is None:
            del vars(session)["begin"]
        else:
            vars(session)["begin"] = outer
        hidden.show()


def _write_now(session: Any, states: Iterable[InstanceState[Any]]) -> None:
    """Write rows as a flush does, in the flush that is at work."""
    context: Any = UOWTransaction(session)
    for state in states:
        context.register_object(state, isdelete=state in session._deleted)  # noqa: SLF001
    context.transaction = session._transaction  # noqa: SLF001
    context.execute()
    context.finalize_flush_changes()


class _Hidden:
    """What a session is about to write, out of the reach of the rollback of a savepoint."""

    def __init__(self, session: Session) -> None:
        self._session: Any = session
        self._new: dict[InstanceState[Any], Any] = {}
        self._deleted: dict[InstanceState[Any], Any] = {}
        self._changed: set[InstanceState[Any]] = set()

    def hide(self) -> None:
        session = self._session
        for kept, hidden in ((session._new, self._new), (session._deleted, self._deleted)):  # noqa: SLF001
            hidden.update(kept)
            kept.clear()
        changed = session.identity_map._modified  # noqa: SLF001
        self._changed.update(changed)
        for state in changed:
            state.modified = False
        changed.clear()

    def show(self) -> None:
        session = self._session
        session._new.update(self._new)  # noqa: SLF001
        session._deleted.update(self._deleted)  # noqa: SLF001
        for state in self._changed:
            if not state.expired and session.identity_map.contains_state(state):
                state.modified = True
                session.identity_map._modified.add(state)  # noqa: SLF001
