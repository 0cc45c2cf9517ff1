"""Loading: one statement for an aggregate by its id; for any other query, one more for the state of all it has brought."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import Session, object_session

from sa_eventsource.aggregates import AggregateRoot, blank, definition_of, drop_state, is_loaded, restore
from sa_eventsource.observation import observed
from sa_eventsource.session.sqlalchemy_internals import after_rows, identity_load, loaded_result
from sa_eventsource.store import read_stream, read_streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Result
    from sqlalchemy.orm import ORMExecuteState, QueryContext

    from sa_eventsource.aggregates import AggregateDefinition
    from sa_eventsource.observation import Observation
    from sa_eventsource.session.sqlalchemy_internals import IdentityLoad
    from sa_eventsource.store import StoredStream


def listen() -> None:
    """Put the hooks on every aggregate class, present and future."""
    event.listen(Session, "do_orm_execute", _load_by_id)
    event.listen(AggregateRoot, "load", _loaded, propagate=True)
    event.listen(AggregateRoot, "refresh", _refreshed, propagate=True)
    event.listen(AggregateRoot, "expire", _expired, propagate=True)


def _load_by_id(execution: ORMExecuteState) -> Result[Any] | None:
    """Answer ``session.get`` and the reload of an expired instance from its events alone: they tell id and version too."""
    mapper = execution.bind_mapper
    if mapper is None or not issubclass(mapper.class_, AggregateRoot) or not execution.is_select:
        return None
    load = identity_load(execution)
    if load is None:
        return None
    with observed("load", definition_of(mapper.class_).aggregate_type) as observation:
        return _loaded_by_id(execution, load, observation)


def _loaded_by_id(execution: ORMExecuteState, load: IdentityLoad, observation: Observation) -> Result[Any]:
    session = execution.session
    mapper: Any = execution.bind_mapper
    definition = definition_of(mapper.class_)
    aggregate_id = definition.text_id(load.identity)
    stream = read_stream(session.connection(bind_arguments=execution.bind_arguments), definition, aggregate_id)
    if stream is None:
        return loaded_result(load, session, None)
    observation.events = len(stream.rows)
    aggregate: AggregateRoot[Any] | None
    if load.refreshed is None:
        # The autoflush may just have made a new instance with this id persistent.
        aggregate = session.identity_map.get(mapper.identity_key_from_primary_key((load.identity,)))
        if aggregate is not None:
            _ = aggregate.version  # loads it if it is expired
            return loaded_result(load, session, aggregate)
        aggregate = blank(mapper.class_, aggregate_id)
    else:
        aggregate = load.refreshed.obj()
    if aggregate is not None:
        restore(aggregate, aggregate_id, stream.rows, snapshot=stream.snapshot)
    return loaded_result(load, session, aggregate)


def _loaded(aggregate: AggregateRoot[Any], context: QueryContext | None) -> None:
    if context is not None:
        after_rows(context, ("sa_eventsource", type(aggregate)), _hydrate, aggregate)


def _refreshed(aggregate: AggregateRoot[Any], context: QueryContext | None, attributes: Iterable[str] | None) -> None:
    if attributes is None or "version" in attributes or not is_loaded(aggregate):
        _loaded(aggregate, context)


def _expired(aggregate: AggregateRoot[Any], attributes: Iterable[str] | None) -> None:
    if attributes is None or "version" in attributes:
        drop_state(aggregate)


def _hydrate(aggregates: Sequence[AggregateRoot[Any]]) -> None:
    """Rebuild aggregates of one class in one session."""
    session = object_session(aggregates[0])
    if session is None:
        return
    definition = definition_of(type(aggregates[0]))
    with observed("load", definition.aggregate_type) as observation:
        observation.events = _hydrate_in(session, definition, aggregates)


def _hydrate_in(session: Session, definition: AggregateDefinition, aggregates: Sequence[AggregateRoot[Any]]) -> int:
    connection = session.connection(bind_arguments={"mapper": type(aggregates[0]).__mapper__})  # type: ignore[attr-defined]
    by_id: dict[str, AggregateRoot[Any]] = {definition.text_id(aggregate.id): aggregate for aggregate in aggregates}
    streams: Iterable[StoredStream | None]
    if len(by_id) == 1:
        streams = [read_stream(connection, definition, next(iter(by_id)))]
    else:
        streams = read_streams(connection, definition, list(by_id))
    events = 0
    for stream in streams:
        if stream is not None:
            events += len(stream.rows)
            restore(by_id[stream.aggregate_id], stream.aggregate_id, stream.rows, snapshot=stream.snapshot)
    return events
