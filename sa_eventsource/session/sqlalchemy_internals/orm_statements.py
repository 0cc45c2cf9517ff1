"""What SQLAlchemy keeps to itself of statements, and of what loading their rows does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import inspection
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import ColumnProperty, InstanceState, Mapper
from sqlalchemy.orm.attributes import instance_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Result
    from sqlalchemy.orm import ORMExecuteState, QueryContext, Session


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


def has_statement_hooks(session: Session) -> bool:
    """Check whether anybody but this library listens to a session's statements (``do_orm_execute``)."""
    return len(session.dispatch.do_orm_execute) > _OWN_STATEMENT_LISTENERS


def _is_plain(execution: ORMExecuteState) -> bool:
    """Check whether a statement asks for nothing but its rows, and nobody but this library listens to it or to what it loads."""
    mapper = execution.bind_mapper
    if mapper is None or has_statement_hooks(execution.session):
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
    if mapper is None or not _is_by_identity(statement, mapper):
        return None
    options = execution.load_options
    if options._populate_existing or options._identity_token is not None or _loads_more(mapper):  # noqa: SLF001
        return None
    if options._autoflush:  # noqa: SLF001
        execution.session._autoflush()  # noqa: SLF001
    return IdentityLoad(mapper, next(iter(parameters.values())), options._refresh_state)  # noqa: SLF001


def loaded_identity(context: QueryContext, mapper: Mapper[Any]) -> Any | None:
    """Get the primary key's single value of a statement that loads one instance by it, whatever else it asks for.

    None for every other statement.
    """
    parameters: Any = context.params
    if len(parameters) != 1 or not _is_by_identity(context.query, mapper):
        return None
    return next(iter(parameters.values()))


def _is_by_identity(statement: Any, mapper: Mapper[Any]) -> bool:
    criteria: Any = getattr(statement, "_where_criteria", ())
    # SQLAlchemy 2.0 annotates the mapper's own criterion, 2.1 takes it as it is.
    return len(criteria) == 1 and getattr(criteria[0], "_Annotated__element", criteria[0]) is mapper._get_clause[0]  # noqa: SLF001


def _asks_for_more(statement: Any) -> bool:
    """Check whether a statement has options, locks its rows, or is a refresh that names relationships."""
    if statement._with_options or statement._for_update_arg is not None:  # noqa: SLF001
        return True
    named = getattr(statement._compile_options, "_only_load_props", None)  # noqa: SLF001
    return named is not None and not _COLUMNS.issuperset(named)


def _loads_more(mapper: Mapper[Any]) -> bool:
    """Check whether a row of the mapper brings more than id and version: a ``column_property()``, a relationship loaded eagerly."""
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
    """Put an instance that was loaded without a row into the session, notify the listeners, and wrap it as the result.

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
            # What loading a row does. make_transient_to_detached() and session.add() would tell that it was expired and detached.
            state.key = load.mapper._identity_key_from_state(state)  # noqa: SLF001
            state.session_id = session.hash_key
            state._commit_all(state.dict)  # noqa: SLF001
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
