"""Loading: whatever statement brings aggregates into a session, their state follows in one more statement for all of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import object_session

from sa_eventsource.aggregates import AggregateRoot, definition_of, drop_state, is_loaded, restore
from sa_eventsource.session.sqlalchemy_internals import after_rows
from sa_eventsource.store import read_stream, read_streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import QueryContext

    from sa_eventsource.store import StoredStream


def listen() -> None:
    """Put the hooks on every aggregate class, present and future."""
    event.listen(AggregateRoot, "load", _loaded, propagate=True)
    event.listen(AggregateRoot, "refresh", _refreshed, propagate=True)
    event.listen(AggregateRoot, "expire", _expired, propagate=True)


def _loaded(aggregate: AggregateRoot[Any], context: QueryContext) -> None:
    after_rows(context, ("sa_eventsource", type(aggregate)), _hydrate, aggregate)


def _refreshed(aggregate: AggregateRoot[Any], context: QueryContext, attributes: Iterable[str] | None) -> None:
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
    connection = session.connection(bind_arguments={"mapper": type(aggregates[0]).__mapper__})  # type: ignore[attr-defined]
    by_id: dict[str, AggregateRoot[Any]] = {definition.text_id(aggregate.id): aggregate for aggregate in aggregates}
    streams: Iterable[StoredStream | None]
    if len(by_id) == 1:
        streams = [read_stream(connection, definition, next(iter(by_id)))]
    else:
        streams = read_streams(connection, definition, list(by_id))
    for stream in streams:
        if stream is not None:
            restore(by_id[stream.aggregate_id], stream.aggregate_id, stream.rows, snapshot=stream.snapshot)
