"""The few names of SQLAlchemy used here that are not its public API, each with the reason. Nothing else in the library uses any.

They are the same in SQLAlchemy 2.0.40 to 2.1; the test suite runs on both. See docs/explanation/decisions/.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import InstanceState, Mapper, make_transient_to_detached
from sqlalchemy.orm.attributes import instance_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Result
    from sqlalchemy.orm import MappedColumn, ORMExecuteState, QueryContext, Session


@contextmanager
def flush_transaction(session: Session) -> Iterator[None]:
    """Do what a flush does around its statements: on an error, roll back to the enclosing savepoint or the start.

    After that the session refuses to go on until ``rollback()``, and says why. ``before_flush`` runs outside the flush's own such
    block, so a failure there would leave half of a flush to be committed.
    """
    try:
        yield
    except BaseException:
        # The block that a flush opens first; opened late, it does the same, and costs nothing where all goes well.
        session._autobegin_t()._begin().rollback(_capture_exception=True)  # noqa: SLF001
        raise


def register_persistent(session: Session, states: set[InstanceState[Any]]) -> None:
    """Do what a flush does after its statements: new and changed instances become persistent and clean.

    The events of all aggregates are written in ``before_flush`` by one statement; sending the instances through the unit of work
    as well, which has no table to write for them, would take a quarter of a commit's time.
    """
    session._register_persistent(states)  # noqa: SLF001


def after_rows(context: QueryContext, key: Any, act: Callable[[list[Any]], None], instance: Any) -> None:
    """Have *act* called with all instances given under *key*, once the rows of the statement (or of a ``yield_per`` batch) are in.

    This is how ``selectinload`` comes by its moment; no public event has it.
    """
    waiting = context.post_load_paths
    if key not in waiting:
        waiting[key] = _AfterRows(act)  # type: ignore[assignment]
    waiting[key].instances.append(instance)  # type: ignore[attr-defined]


class _AfterRows:
    def __init__(self, act: Callable[[list[Any]], None]) -> None:
        self._act = act
        self.instances: list[Any] = []

    def invoke(self, _context: QueryContext, _path: Any) -> None:
        instances, self.instances = self.instances, []
        if instances:
            self._act(instances)


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


def identity_load(execution: ORMExecuteState) -> IdentityLoad | None:
    """Recognise a load by primary key that asks for nothing else; None for every other statement."""
    statement: Any = execution.statement
    parameters = execution.parameters
    if type(parameters) is not dict or len(parameters) != 1 or statement._with_options or statement._for_update_arg is not None:  # noqa: SLF001
        return None
    mapper = execution.bind_mapper
    criteria = statement._where_criteria  # noqa: SLF001
    if mapper is None or len(criteria) != 1:
        return None
    # SQLAlchemy 2.0 annotates the mapper's own criterion, 2.1 takes it as it is.
    if getattr(criteria[0], "_Annotated__element", criteria[0]) is not mapper._get_clause[0]:  # noqa: SLF001
        return None
    options = execution.load_options
    if options._populate_existing or options._identity_token is not None:  # noqa: SLF001
        return None
    if options._autoflush:  # noqa: SLF001
        execution.session._autoflush()  # noqa: SLF001
    mapper._check_configure()  # noqa: SLF001 - compiling the statement would have done it
    return IdentityLoad(mapper, next(iter(parameters.values())), options._refresh_state)  # noqa: SLF001


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
            make_transient_to_detached(instance)
            session.add(instance)
            state.manager.dispatch.load(state, None)
            session.dispatch.loaded_as_persistent(session, state)
    else:
        state._commit_all(state.dict, session.identity_map)  # noqa: SLF001
        state.manager.dispatch.refresh(state, None, None)
    return IteratorResult(SimpleResultMetaData([name]), iter([(instance,)]))


def asks_for_update(statement: Any) -> bool:
    """Tell whether a SELECT has ``with_for_update()``; a statement has no public property for it."""
    return getattr(statement, "_for_update_arg", None) is not None


def copied(column: MappedColumn[Any]) -> MappedColumn[Any]:
    """Copy a ``mapped_column()``, as SQLAlchemy does with those of mixins, so that several classes can have it."""
    return column._copy()  # noqa: SLF001


def refuse_bulk_writes(mapper: Mapper[Any], error: Exception) -> None:
    """Have ``bulk_save_objects`` and the like raise *error* for a mapper, whose tables they look up and would find none.

    There is no event before a bulk operation. Flushes do not look: aggregates are persistent by then. The columns of the primary
    key, which SQLAlchemy would seek among those of the mapper's tables, are set beforehand; ``refresh`` of single attributes needs
    them as well.
    """
    mapper.__dict__["_sorted_tables"] = _Refusing(error)
    mapper.__dict__["_all_pk_cols"] = set(mapper.primary_key)


class _Refusing(dict[Any, Any]):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def items(self) -> Any:
        raise self._error
