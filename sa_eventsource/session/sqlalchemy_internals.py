"""Most names of SQLAlchemy used here that are not its public API, each with the reason; decision 2 lists those elsewhere.

They are the same in SQLAlchemy 2.0.40 to 2.1; the test suite runs on both. See docs/explanation/decisions/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import inspection
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.event.attr import _EmptyListener
from sqlalchemy.orm import ClassManager, ColumnProperty, InstanceState, Mapper, make_transient_to_detached
from sqlalchemy.orm.attributes import instance_state

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from sqlalchemy import Connection, Result
    from sqlalchemy.orm import (
        MappedColumn,
        ORMExecuteState,
        QueryContext,
        RelationshipProperty,
        Session,
        SessionTransaction,
        UOWTransaction,
    )


def is_heard_elsewhere(session: Session) -> bool:
    """Tell whether anyone but this library listens to a session's flushes, or to the transaction that each flush has of its own.

    The library has one listener for two of the events, and two for the end of transactions.
    """
    dispatch = session.dispatch
    for name, own in _FLUSH_EVENTS:
        count = _count(getattr(dispatch, name))
        if count > own:
            return True
    return False


def _count(listeners: Any) -> int:
    """Count listeners. Where an object has none of its own, as a rule, those of its class are counted with less work."""
    return len(listeners.parent_listeners if type(listeners) is _EmptyListener else listeners)


_FLUSH_EVENTS = (
    ("before_flush", 1),
    ("after_flush", 0),
    ("after_flush_postexec", 1),
    ("pending_to_persistent", 0),
    ("after_transaction_create", 0),
    ("after_transaction_end", 2),
)
"""Each with the number of this library's own listeners."""


def has_condition(relationship: RelationshipProperty[Any]) -> bool:
    """Tell whether a relationship was given its ``primaryjoin``. The public attribute is set when the mapper is configured."""
    return relationship._init_args.primaryjoin.argument is not None  # noqa: SLF001


def has_work(session: Session) -> bool:
    """Tell whether a flush that has come to its end of ``before_flush`` may go on."""
    return not session._is_clean()  # noqa: SLF001


def new_states(session: Session) -> Collection[InstanceState[Any]]:
    """Get the instances that ``session.new`` lists, without making a list."""
    return session._new  # noqa: SLF001


def unflushed(session: Session) -> tuple[Iterable[Any], Iterable[Any], Iterable[Any]]:
    """Get the instances that a flush would insert, update and delete, as ``session.new``, ``dirty`` and ``deleted`` list them."""
    deleted = session._deleted  # noqa: SLF001
    dirty = session._dirty_states  # noqa: SLF001
    return session._new.values(), [each.obj() for each in dirty if each not in deleted], deleted.values()  # noqa: SLF001


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


def register_persistent(session: Session, states: set[InstanceState[Any]]) -> Callable[[], None]:
    """Do what a flush does after its statements: new and changed instances become persistent and clean.

    Before other rows are written, so that what follows from the events finds the instances in the session. Sending them through
    the unit of work as well, which has no table to write for them, would take a quarter of a commit's time: that is only done
    where somebody else listens.

    Returns:
        What is to be called when that has been written: here there is nothing to do.
    """
    session._register_persistent(states)  # noqa: SLF001
    return _do_nothing


def _do_nothing() -> None:
    pass


def register_findable(session: Session, states: set[InstanceState[Any]]) -> Callable[[], None]:
    """Have new instances found in the session by their identity, for as long as what follows from their events is written.

    The flush makes them persistent at its end; until then its hooks see them in ``session.new``. An instance whose place one takes
    was never stored: the flush drops it, with a warning.

    Returns:
        What makes them new again.
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


def has_row_hooks(mapper: Mapper[Any]) -> bool:
    """Tell whether anyone listens to a mapper's rows (``before_insert`` and the like)."""
    dispatch = mapper.dispatch
    count = _count(dispatch.before_insert) + _count(dispatch.before_update)
    return bool(count + _count(dispatch.after_insert) + _count(dispatch.after_update))


def call_row_hooks(connection: Connection, state: InstanceState[Any], name: str) -> None:
    """Call the listeners to an instance's row, as SQLAlchemy does where it writes one.

    Args:
        connection: What they may write with.
        state: The instance.
        name: The event.
    """
    getattr(state.mapper.dispatch, name)(state.mapper, connection, state)


class PendingFlush:
    """A flush whose ``before_flush`` hooks run."""

    def __init__(self, context: UOWTransaction) -> None:
        """Wrap what the hooks are given."""
        self._context: Any = context
        self.session: Session = self._context.session
        self._present: frozenset[InstanceState[Any]] = frozenset()

    def before_rows(self, act: Callable[[PendingFlush], None]) -> None:
        """Have *act* called once all ``before_flush`` hooks have run and all that is to be written is known, before the first row.

        This is the stage at which relationships add what they cascade to; no public event has it. *act* may use the session as a
        ``before_flush`` hook may.
        """
        self._context.presort_actions["sa_eventsource"] = _BeforeRows(self, act)

    def states(self) -> list[tuple[InstanceState[Any], bool]]:
        """List what the flush is about to write, with whether it is deleted."""
        return [(state, is_deleted) for state, (is_deleted, is_listed_only) in self._context.states.items() if not is_listed_only]

    def leave_out(self, state: InstanceState[Any]) -> None:
        """Have the flush write no row for an instance, which it makes persistent and clean all the same."""
        self._context.remove_state_actions(state)

    def note_what_is_there(self) -> None:
        """Remember what the session is to write, in this flush or in another."""
        self._present = frozenset(self._to_write())

    def take_in_what_came_up(self, written: type[Any]) -> None:
        """Have the flush write also what has been added, changed or deleted since :meth:`note_what_is_there`.

        Args:
            written: Instances of this class are written already: new ones are made persistent, and no row is written for them.
        """
        deleted = self.session._deleted  # noqa: SLF001
        for state in self._to_write():
            is_written = issubclass(state.mapper.class_, written)
            if state not in self._present and (state.key is None or not is_written):
                self._context.register_object(state, isdelete=state in deleted)
                if is_written:
                    self.leave_out(state)

    def _to_write(self) -> list[InstanceState[Any]]:
        session = self.session
        return [*session._new, *session._dirty_states, *session._deleted]  # noqa: SLF001


class _BeforeRows:
    def __init__(self, flush: PendingFlush, act: Callable[[PendingFlush], None]) -> None:
        self._flush = flush
        self._act: Callable[[PendingFlush], None] | None = act

    def execute(self, _context: UOWTransaction) -> bool:
        """Act once; tell SQLAlchemy that there may be more to write."""
        act, self._act = self._act, None
        if act is None:
            return False
        session: Any = self._flush.session
        session._warn_on_events = False  # noqa: SLF001 - no row is being written yet
        try:
            act(self._flush)
        finally:
            session._warn_on_events = True  # noqa: SLF001
        return True


_OPTIONS_OF_ROWS = frozenset({"autoflush", "identity_token", "max_row_buffer", "populate_existing", "stream_results", "yield_per"})
"""Execution options that say how the rows of one statement are fetched and made into instances."""


def statement_options(context: QueryContext) -> dict[str, Any]:
    """Get the execution options that an application gave with a statement, for a further one that belongs to it."""
    given = {**context.query.get_execution_options(), **context.execution_options}
    return {name: value for name, value in given.items() if not str(name).startswith("_") and name not in _OPTIONS_OF_ROWS}


class IdentityLoad(NamedTuple):
    """A statement that loads one instance by its primary key, as ``session.get`` and expired attributes make it.

    Attributes:
        mapper: The mapper.
        identity: The primary key's single value.
        refreshed: The instance to refresh; None to make a new one.
    """

    mapper: Mapper[Any]
    identity: Any
    refreshed: InstanceState[Any] | None


def _is_plain(execution: ORMExecuteState) -> bool:
    """Tell whether a statement asks for nothing but its rows, and nobody but this library listens to it or to what it loads."""
    mapper = execution.bind_mapper
    if mapper is None or len(execution.session.dispatch.do_orm_execute) > _OWN_STATEMENT_LISTENERS:
        return False
    dispatch = mapper.class_manager.dispatch
    return (
        not dispatch.load
        and not dispatch.refresh
        and all(name in _ALWAYS_GIVEN for name in execution.execution_options)
        and len(execution.bind_arguments) == len(_BIND_ARGUMENTS & execution.bind_arguments.keys())
    )


_OWN_STATEMENT_LISTENERS = 2
_COLUMNS = frozenset({"id", "version"})
_ALWAYS_GIVEN = frozenset({"_sa_orm_load_options", "_result_disable_adapt_to_context"})
_BIND_ARGUMENTS = frozenset({"clause", "mapper"})


def identity_load(execution: ORMExecuteState) -> IdentityLoad | None:
    """Recognise a load by primary key that asks for nothing else; None for every other statement."""
    if not _is_plain(execution):
        return None
    statement: Any = execution.statement
    parameters = execution.parameters
    if type(parameters) is not dict or len(parameters) != 1 or _asks_for_more(statement):
        return None
    mapper = execution.bind_mapper
    criteria = statement._where_criteria  # noqa: SLF001
    if mapper is None or len(criteria) != 1:
        return None
    # SQLAlchemy 2.0 annotates the mapper's own criterion, 2.1 takes it as it is.
    if getattr(criteria[0], "_Annotated__element", criteria[0]) is not mapper._get_clause[0]:  # noqa: SLF001
        return None
    options = execution.load_options
    if options._populate_existing or options._identity_token is not None or _loads_more(mapper):  # noqa: SLF001
        return None
    if options._autoflush:  # noqa: SLF001
        execution.session._autoflush()  # noqa: SLF001
    return IdentityLoad(mapper, next(iter(parameters.values())), options._refresh_state)  # noqa: SLF001


def _asks_for_more(statement: Any) -> bool:
    """Tell whether a statement has options, locks its rows, or is a refresh that names relationships."""
    if statement._with_options or statement._for_update_arg is not None:  # noqa: SLF001
        return True
    named = getattr(statement._compile_options, "_only_load_props", None)  # noqa: SLF001
    return named is not None and not _COLUMNS.issuperset(named)


def _loads_more(mapper: Mapper[Any]) -> bool:
    """Tell whether a row of the mapper brings more than id and version: a ``column_property()``, a relationship loaded eagerly."""
    mapper._check_configure()  # noqa: SLF001 - compiling the statement would have done it
    for key, attribute in mapper._props.items():  # noqa: SLF001
        if isinstance(attribute, ColumnProperty):
            if key not in ("id", "version"):
                return True
        elif getattr(attribute, "lazy", "select") not in _LAZY:
            return True
    return False


_LAZY = ("select", True, "raise", "raise_on_sql", "noload", "dynamic", "write_only")


def loaded_result(load: IdentityLoad, session: Session, instance: Any | None) -> Result[Any]:
    """Put an instance that was loaded without a row into the session, tell the listeners, and wrap it as the result.

    Args:
        load: The statement that is answered.
        session: Its session.
        instance: The instance, its attributes set, new or in the session already; None for no row.
    """
    name = load.mapper.class_.__name__
    if instance is None:
        return IteratorResult(SimpleResultMetaData([name]), iter([]))
    state = instance_state(instance)
    if load.refreshed is None:
        if state.session is None:
            # What loading a row does: the instance was never detached, as session.add() would tell.
            make_transient_to_detached(instance)
            state.session_id = session.hash_key
            session.identity_map.add(state)
            state.manager.dispatch.load(state, None)
            session.dispatch.loaded_as_persistent(session, state)
    else:
        state._commit_all(state.dict, session.identity_map)  # noqa: SLF001
        state.manager.dispatch.refresh(state, None, None)
    return IteratorResult(SimpleResultMetaData([name]), iter([(instance,)]))


def locked_classes(execution: ORMExecuteState) -> Iterator[type[Any]]:
    """List the mapped classes whose rows a SELECT locks; a statement has no public property for ``with_for_update()`` and joins.

    Without ``of=``, the database locks the rows of all that are selected or joined.
    """
    statement: Any = execution.statement
    asked = getattr(statement, "_for_update_arg", None)
    if asked is None:
        return
    if asked.of is None:
        yield from (mapper.class_ for mapper in execution.all_mappers)
    for element in asked.of or [join[0] for join in getattr(statement, "_setup_joins", ())]:
        entity = getattr(element, "_annotations", {}).get("parententity") or inspection.inspect(element, raiseerr=False)
        mapper = getattr(entity, "mapper", None)
        if mapper is not None:
            yield mapper.class_


def refuse_lookups(manager: ClassManager[Any], refuse: Callable[[str], None]) -> None:
    """Have *refuse* called with each name that SQLAlchemy does not find among the attributes of a class; it may raise.

    ``Session.expire`` and ``refresh`` with names, ``flag_modified`` and the like look there first, and no event comes before.
    """
    manager.__class__ = _RefusingManager
    vars(manager)["_refuse"] = refuse


class _RefusingManager(ClassManager[Any]):
    _refuse: Callable[[str], None]

    def __missing__(self, key: str) -> Any:
        self._refuse(key)
        raise KeyError(key)


def refuse_inspection(kind: type[Any], refuse: Callable[[Any], Any]) -> None:
    """Have *refuse* called, which raises, where SQLAlchemy asks what an instance of *kind* is: as a loader option, a bound value.

    It is how SQLAlchemy's own classes are told to ``inspect()``, and an error of ours can be raised nowhere else.
    """
    inspection._inspects(kind)(refuse)  # noqa: SLF001


def copied(column: MappedColumn[Any]) -> MappedColumn[Any]:
    """Copy a ``mapped_column()``, as SQLAlchemy does with those of mixins, so that several classes can have it."""
    return column._copy()  # noqa: SLF001
