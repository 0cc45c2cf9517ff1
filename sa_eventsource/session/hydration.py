"""Loading and expiring: one statement for an aggregate by its id; a state that was lost is set from the log again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.attributes import instance_state

from sa_eventsource.aggregates import (
    AggregateRoot,
    base_version,
    blank,
    books_of,
    definition_of,
    drop_state,
    identity_of,
    rebase,
)
from sa_eventsource.mapping import compared_as_text, id_as_text
from sa_eventsource.observation import observed
from sa_eventsource.session import ledger
from sa_eventsource.session.sqlalchemy_internals import identity_load, loaded_result
from sa_eventsource.session.state_reader import restore_in
from sa_eventsource.session.tenants_of_instances import check_session
from sa_eventsource.store import HELD, connection_for, read_stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Result
    from sqlalchemy.orm import InstanceState, ORMExecuteState, Session

    from sa_eventsource.observation import Observation
    from sa_eventsource.session.sqlalchemy_internals import IdentityLoad


def load_by_id(execution: ORMExecuteState) -> Result[Any] | None:
    """Answer ``session.get`` and the reload of an expired instance from its events alone: they have id and version too.

    Only where nobody else listens and nothing else is asked for; all else goes SQLAlchemy's own way.
    """
    if HELD in execution.session.__dict__:
        check_session(execution.session)
    mapper = execution.bind_mapper
    if mapper is None or not issubclass(mapper.class_, AggregateRoot) or not execution.is_select:
        return None
    load = identity_load(execution)
    if load is None or _has_state(load):
        return None
    with observed("load", definition_of(mapper.class_).aggregate_type) as observation:
        return _answer(execution, load, observation)


def _has_state(load: IdentityLoad) -> bool:
    """Check whether an instance is to be refreshed that has its state, or pending events: only a part of it is wanted."""
    aggregate = None if load.refreshed is None else load.refreshed.obj()
    if not isinstance(aggregate, AggregateRoot):
        return False
    books = books_of(aggregate)
    return books.is_loaded or bool(books.pending)


def _answer(execution: ORMExecuteState, load: IdentityLoad, observation: Observation) -> Result[Any]:
    session = execution.session
    mapper: Any = execution.bind_mapper
    definition = definition_of(mapper.class_)
    write_id = compared_as_text if execution.is_relationship_load else id_as_text
    aggregate_id = write_id(load.identity, definition.id_type, definition.aggregate_type)
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
        restore_in(session, aggregate, stream)
    return loaded_result(load, session, aggregate)


def expired(state: InstanceState[Any], attributes: Iterable[str] | None) -> None:
    """Drop the state of an expired aggregate, and with it the events that are not written."""
    aggregate = state.obj()
    if aggregate is None:
        return
    if attributes is None or "version" in attributes:
        if books_of(aggregate).pending and state.session is not None:
            ledger.discard(state.session, state)
        drop_state(aggregate)
    elif state.key is not None and vars(aggregate).get("version") == 0 and not books_of(aggregate).pending:
        # make_transient_to_detached() of one that was just constructed: it stands for what is stored, and version 0 is not.
        del vars(aggregate)["version"]
        state.expired_attributes.add("version")
        drop_state(aggregate)


def reload_state(session: Session, aggregate: AggregateRoot[Any]) -> None:
    """Set the state of an aggregate that has lost it from the log, and from its pending events, which it keeps.

    Raises:
        CorruptStreamError: What is stored does not come to the version that the pending events follow.
    """
    state, base = instance_state(aggregate), base_version(aggregate)
    if base is None or (state.key is not None and not books_of(aggregate).pending):
        session.expire(aggregate, ["version"])
        _ = aggregate.version
        return
    definition = definition_of(type(aggregate))
    aggregate_id = definition.text_id(identity_of(aggregate))
    stream = read_stream(connection_for(session, state), definition, aggregate_id, version=base)
    rows, snapshot = ((), None) if stream is None else (stream.rows, stream.snapshot)
    rebase(aggregate, aggregate_id, rows, snapshot=snapshot, base=base)
