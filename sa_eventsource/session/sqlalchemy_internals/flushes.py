"""What SQLAlchemy keeps to itself of sessions and their flushes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import RootTransaction
from sqlalchemy.event.attr import _EmptyListener
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from sqlalchemy import Connection
    from sqlalchemy.orm import InstanceState, Mapper, SessionTransaction, UOWTransaction


def is_heard_elsewhere(session: Session) -> bool:
    """Check whether anyone but this library listens to a session's flushes, or to the transaction that each flush has of its own.

    The library has one listener for two of the events, and three for the end of transactions.
    """
    dispatch: Any = session.dispatch
    listeners: Any
    for listeners, own in (  # attributes, not names: each commit of aggregates comes by here
        (dispatch.before_flush, 1),
        (dispatch.after_flush, 0),
        (dispatch.after_flush_postexec, 1),
        (dispatch.pending_to_persistent, 0),
        (dispatch.after_transaction_create, 0),
        (dispatch.after_transaction_end, 3),
    ):
        # Where an object has none of its own, as a rule, those of its class are counted with less work.
        if len(listeners.parent_listeners if type(listeners) is _EmptyListener else listeners) > own:
            return True
    return False


def is_all_of_commit(session: Session, count: int) -> bool:
    """Check whether a flush that is about to write *count* instances is all that a transaction does.

    The flush comes from the commit and does what SQLAlchemy's does, the session has asked for no connection yet, there are no other
    instances to be written, and nobody but this library, which has two listeners for it, is asked before the commit.
    """
    transaction: Any = session._transaction  # noqa: SLF001
    if transaction is None or transaction._connections:  # noqa: SLF001
        return False
    caller = transaction._current_fn  # noqa: SLF001 - no public attribute tells a flush that comes from commit()
    if caller is None or caller.__name__ != "_prepare_impl" or session.twophase or transaction.parent is not None:
        return False
    if _count_of_changed(session) != count or getattr(session.flush, "__func__", None) is not Session.flush:
        return False
    listeners: Any = session.dispatch.before_commit
    return len(listeners) == _OWN_BEFORE_COMMIT


_OWN_BEFORE_COMMIT = 2


def ends_transaction(session: Session, connection: Connection) -> bool:
    """Check whether nothing but the COMMIT of a connection follows a flush that has written all it had to.

    The flush comes from the commit, and no listener but this library's is called before SQLAlchemy commits the connection, which is
    the only one.
    """
    transaction: Any = session._transaction  # noqa: SLF001
    if transaction is None or transaction.parent is not None or session.twophase or is_heard_elsewhere(session):
        return False
    caller = transaction._current_fn  # noqa: SLF001
    if caller is None or caller.__name__ != "_prepare_impl" or getattr(session.flush, "__func__", None) is not Session.flush:
        return False
    return connection in transaction._connections and will_commit(session, 0)  # noqa: SLF001


def _count_of_changed(session: Session) -> int:
    changed: Any = session._dirty_states  # noqa: SLF001
    return len(session._new) + len(changed) + len(session._deleted)  # noqa: SLF001


def will_commit(session: Session, count: int) -> bool:
    """Check whether a session's commit is that of its one connection, which is in no transaction of somebody else's.

    The connection is there since :func:`is_all_of_commit`, for as many instances: hooks that were called as its transaction began
    may have added others to the session.
    """
    connections = set(session._transaction._connections.values())  # type: ignore[union-attr]  # noqa: SLF001
    return (
        _count_of_changed(session) == count
        and len(connections) == 1
        and all(should_commit and isinstance(outer, RootTransaction) for _, outer, should_commit, _ in connections)
    )


def has_work(session: Session) -> bool:
    """Check whether a flush that has come to its end of ``before_flush`` may go on."""
    return not session._is_clean()  # noqa: SLF001


def new_states(session: Session) -> Collection[InstanceState[Any]]:
    """Get the instances that ``session.new`` lists, without making a list."""
    return session._new  # noqa: SLF001


def unflushed(session: Session) -> tuple[Iterable[Any], Iterable[Any], Iterable[Any]]:
    """Get the instances that a flush would insert, update and delete, as ``session.new``, ``dirty`` and ``deleted`` list them."""
    deleted = session._deleted  # noqa: SLF001
    dirty = session._dirty_states  # noqa: SLF001
    changed = [each.obj() for each in dirty if each not in deleted] if dirty else ()
    return session._new.values(), changed, deleted.values()  # noqa: SLF001


def is_orphan(state: InstanceState[Any]) -> bool:
    """Check whether a flush would delete a changed instance: no parent has it any more (``delete-orphan``)."""
    mapper = state.mapper
    return bool(mapper._delete_orphans) and mapper._is_orphan(state)  # noqa: SLF001


def innermost(session: Session) -> SessionTransaction:
    """Get the savepoint that a session is in, or else its transaction, which must have begun."""
    transaction: Any = session._nested_transaction or session._transaction  # noqa: SLF001
    while transaction._parent is not None and not transaction.nested:  # noqa: SLF001 - the one that a flush has of its own
        transaction = transaction._parent  # noqa: SLF001
    found: SessionTransaction = transaction
    return found


def fail_flush(session: Session) -> None:
    """Do what a flush does on an error in its statements: roll back to the enclosing savepoint or the start.

    After that the session refuses to go on until ``rollback()``, and says why. ``before_flush`` runs outside the flush's own block
    that does so, and a failure there would leave half of a flush to be committed. To be called while the error is handled.
    """
    # The block that a flush opens first; opened late, it does the same, and costs nothing where all goes well.
    session._autobegin_t()._begin().rollback(_capture_exception=True)  # noqa: SLF001


def register_persistent(session: Session, states: set[InstanceState[Any]]) -> None:
    """Do what a flush does after its statements: new and changed instances become persistent and clean.

    Before other rows are written, so that what follows from the events finds the instances in the session. Sending them through
    the unit of work as well, which has no table to write for them, would take a quarter of a commit's time: that is only done
    where somebody else listens.
    """
    session._register_persistent(states)  # noqa: SLF001


def register_findable(session: Session, states: set[InstanceState[Any]]) -> Callable[[], None]:
    """Have new instances found in the session by their identity, for as long as what follows from their events is written.

    The flush makes them persistent at its end; until then its hooks see them in ``session.new``. An instance whose place one takes
    was never stored: the flush drops it, with a warning.

    Returns:
        What makes them new again, to be called when that has been written.
    """
    new = [state for state in states if state.key is None]
    replaced: list[InstanceState[Any]] = []
    for state in new:
        state.key = state.mapper._identity_key_from_state(state)  # noqa: SLF001
        old = session.identity_map.replace(state)
        if old is not None:
            replaced.append(old)

    def forget() -> None:
        for state in new:
            session.identity_map.safe_discard(state)
            state.key = None
        for state in replaced:
            if state.obj() is not None:
                session.identity_map.add(state)

    return forget


def expire_read_only(states: Iterable[InstanceState[Any]]) -> None:
    """Do what a flush does with each row that it writes: have attributes read again that the database computes.

    Those are ``column_property()`` and the like; the version, which SQLAlchemy takes for one of them, is known.
    """
    for state in states:
        computed: Any = state.mapper._readonly_props  # noqa: SLF001
        if len(computed) > 1:
            keys = [each.key for each in computed if each.key != "version" and _is_outdated(each, is_loaded=each.key in state.dict)]
            unmodified = state.unmodified_intersection(keys) if keys else ()
            if unmodified:
                state._expire_attributes(state.dict, unmodified)  # noqa: SLF001


def _is_outdated(column: Any, *, is_loaded: bool) -> bool:
    return (is_loaded or not column.deferred) if column.expire_on_flush else not (is_loaded or column.deferred)


def has_row_hooks(mapper: Mapper[Any]) -> bool:
    """Check whether anyone listens to a mapper's rows (``before_insert`` and the like)."""
    dispatch: Any = mapper.dispatch
    listeners: Any
    for listeners in (dispatch.before_insert, dispatch.before_update, dispatch.after_insert, dispatch.after_update):
        if listeners.parent_listeners if type(listeners) is _EmptyListener else listeners:
            return True
    return False


def call_row_hooks(connection: Connection, state: InstanceState[Any], name: str) -> None:
    """Call the listeners to an instance's row, as SQLAlchemy does where it writes one.

    Args:
        connection: What they may write with.
        state: The instance.
        name: The event.
    """
    getattr(state.mapper.dispatch, name)(state.mapper, connection, state)


def to_write(session: Session) -> list[InstanceState[Any]]:
    """List the instances that a session is to write, in this flush or in another."""
    return [*session._new, *session._dirty_states, *session._deleted]  # noqa: SLF001


class PendingFlush:
    """A flush whose ``before_flush`` hooks run."""

    def __init__(self, context: UOWTransaction) -> None:
        """Wrap what the hooks are given."""
        self._context: Any = context
        self.session: Session = self._context.session
        self._present: frozenset[InstanceState[Any]] = frozenset()

    def before_rows(self, act: Callable[[PendingFlush], bool]) -> None:
        """Have *act* called once all ``before_flush`` hooks have run and what is to be written is known, before the first row.

        This is the stage at which relationships add what they write and delete; no public event has it. *act* is called again when
        they have, until there is no more, and returns whether it may have added something itself. It may use the session as a
        ``before_flush`` hook may.
        """
        self._context.presort_actions["sa_eventsource"] = _BeforeRows(self, act)

    def before_post_updates(self, check: Callable[[Any], None]) -> None:
        """Have *check* called, which may raise, with each instance that ``relationship(post_update=True)`` writes a row of.

        These rows alone are written without an event.
        """
        register = self._context.register_post_update

        def checked(state: InstanceState[Any], columns: Any) -> None:
            check(state.obj())
            register(state, columns)

        self._context.register_post_update = checked

    def states(self) -> list[tuple[InstanceState[Any], bool]]:
        """List what the flush is about to write, with whether it is deleted."""
        return [(state, is_deleted) for state, (is_deleted, is_listed_only) in self._context.states.items() if not is_listed_only]

    def leave_out(self, state: InstanceState[Any]) -> None:
        """Have the flush write no row for an instance, which it makes persistent and clean all the same."""
        self._context.remove_state_actions(state)

    def note_what_is_there(self) -> None:
        """Remember what the session is to write, in this flush or in another."""
        self._present = frozenset(to_write(self.session))

    def take_in_what_came_up(self, written: type[Any]) -> None:
        """Have the flush write also what has been added, changed or deleted since :meth:`note_what_is_there`.

        Args:
            written: Instances of this class are written already: new ones are made persistent, and no row is written for them.
        """
        deleted = self.session._deleted  # noqa: SLF001
        for state in to_write(self.session):
            is_written = issubclass(state.mapper.class_, written)
            if state not in self._present and (state.key is None or not is_written):
                self._context.register_object(state, isdelete=state in deleted)
                if is_written:
                    self.leave_out(state)


class _BeforeRows:
    def __init__(self, flush: PendingFlush, act: Callable[[PendingFlush], bool]) -> None:
        self._flush = flush
        self._act = act

    def execute(self, _context: UOWTransaction) -> bool:
        """Act, and tell SQLAlchemy whether there may be more to write: then it asks all once more."""
        session: Any = self._flush.session
        session._warn_on_events = False  # noqa: SLF001 - no row is being written yet
        try:
            return self._act(self._flush)
        finally:
            session._warn_on_events = True  # noqa: SLF001
