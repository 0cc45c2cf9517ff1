"""Which connection the events of one aggregate are read from and written to: a sharded session has several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, insert, inspect, select

from sa_eventsource.exceptions import UnknownShardError

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import InstanceState, Session

    from sa_eventsource.aggregates import AggregateDefinition


def connection_for(session: Session, state: InstanceState[Any]) -> Connection:
    """Get a session's connection for one instance, in its transaction.

    A sharded session chooses by the instance: the shard that it came from, or is to go to.
    """
    if session.connection_callable is None:
        return session.connection(bind_arguments={"mapper": state.mapper})
    if not session.in_transaction():
        session.begin()
    return session.connection_callable(state.mapper, state.obj())


def locate(
    session: Session, definition: AggregateDefinition, aggregate_id: Any, *, writing: bool = False
) -> tuple[Connection, Any]:
    """Get a session's connection for an aggregate of which there need not be an instance, in its transaction.

    A sharded session is asked as its ``get()`` asks it: by its ``identity_chooser``. Where this gives several shards, the one that
    has the stream is taken.

    Args:
        session: The session.
        definition: The aggregate's class.
        aggregate_id: Its id.
        writing: Whether something is to be written, which tells a session that reads from a replica.

    Returns:
        The connection, and the shard, which is the identity token of the aggregate's instances; None where there are no shards.

    Raises:
        UnknownShardError: Something is to be written, and of several shards none has the stream.
    """
    mapper: Any = inspect(definition.aggregate_class)
    events = definition.tables.events
    if session.connection_callable is None or (chooser := getattr(session, "identity_chooser", None)) is None:
        arguments: dict[str, Any] = {"mapper": mapper}
        if writing:
            arguments["clause"] = insert(events)
        return session.connection(bind_arguments=arguments), None
    if not session.in_transaction():
        session.begin()
    shards = list(chooser(mapper, (aggregate_id,), lazy_loaded_from=None, execution_options={}, bind_arguments={}))
    connections = [session.connection_callable(mapper, shard_id=shard) for shard in shards]
    text_id = definition.text_id(aggregate_id)
    has_stream = select(exists().where(events.c.aggregate_type == definition.aggregate_type, events.c.aggregate_id == text_id))
    for shard, connection in zip(shards, connections, strict=True):
        if len(shards) == 1 or connection.scalar(has_stream):
            return connection, shard
    if writing or not shards:
        raise UnknownShardError(definition.aggregate_type, text_id, shards)
    return connections[0], shards[0]
