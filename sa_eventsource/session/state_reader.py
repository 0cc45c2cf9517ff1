"""The state of the aggregates that a query brings: one more statement for all of its rows, read before the first is an instance.

So those who listen to ``load``, ``refresh`` and ``loaded_as_persistent`` find an aggregate as they find any entity: complete.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm.attributes import instance_state

from sa_eventsource.aggregates import AggregateRoot, books_of, definition_of, identity_of, restore
from sa_eventsource.mapping import compared_as_text, may_be_archived
from sa_eventsource.observation import observed
from sa_eventsource.session import ledger
from sa_eventsource.session.merging import check_merge
from sa_eventsource.session.row_processing import after_rows, read_with_rows
from sa_eventsource.session.sqlalchemy_internals import loaded_identity, statement_options
from sa_eventsource.session.tenants_of_instances import note_tenant
from sa_eventsource.store import HELD, STREAMS_AT_ONCE, read_stream, read_streams, refuse_archived

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.orm import InstanceState, Mapper, QueryContext, Session

    from sa_eventsource.store import StoredStream


def restore_in(session: Session, aggregate: AggregateRoot[Any], stream: StoredStream) -> None:
    """Set the state of an aggregate in a session from what is stored, and discard what it had.

    Raises:
        TenantChangedError: It is another tenant's.
        EventSourceError: As for :func:`~sa_eventsource.aggregates.restore`.
    """
    if HELD in session.__dict__ and definition_of(type(aggregate)).tables.options.tenants:
        note_tenant(session, instance_state(aggregate))
    if books_of(aggregate).pending:
        ledger.discard(session, instance_state(aggregate))
    restore(aggregate, stream.aggregate_id, stream.rows, snapshot=stream.snapshot)


def mapped(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Have the state of a class that has just been mapped set with its version: whenever the one is loaded, the other is."""
    if issubclass(class_, AggregateRoot):
        read_with_rows(mapper, "version", StateReader, check_merge)


class StateReader:
    """Reads the states of aggregates of one class for the rows of one statement: some hundred at once, ahead of the instances."""

    def __init__(self, context: QueryContext, mapper: Mapper[Any]) -> None:
        """Take a statement that has been executed, and the class that it brings."""
        self._context = context
        self._mapper = mapper
        self._definition = definition_of(mapper.class_)
        self._to_come: dict[str, None] = {}
        self._streams: dict[str, StoredStream] = {}
        # SQLAlchemy resets the flags of an instance when its listeners have been called, and what they have applied with it.
        after_rows(context, lambda: ledger.flag_pending(context.session))

    def expect(self, identities: Sequence[Any]) -> None:
        """Note the aggregates that will need their state; of those that the session has, only what is to be loaded again."""
        self._streams.clear()
        self._to_come = {self._definition.text_id(each): None for each in identities if each is not None and self._is_needed(each)}

    def _is_needed(self, identity: Any) -> bool:
        if self._context.populate_existing:
            return True
        key = self._mapper.identity_key_from_primary_key((identity,), identity_token=self._context.identity_token)
        present = self._context.session.identity_map.get(key)
        return present is None or "version" not in vars(present)

    def expect_none(self) -> None:
        """Refuse an archived stream that is loaded by its id, which has no row.

        Raises:
            StreamArchivedError: It is one.
        """
        definition = self._definition
        if may_be_archived(definition.tables.events):
            identity = loaded_identity(self._context, self._mapper)
            if identity is not None:
                aggregate_id = compared_as_text(identity, definition.id_type, definition.aggregate_type)
                refuse_archived(self._connection(), definition.tables.events, definition.aggregate_type, aggregate_id)

    def set_attribute(self, state: InstanceState[Any]) -> None:
        """Set state and version of an aggregate, whose version alone is in the row. One that cannot be read is expired."""
        aggregate: Any = state.obj()
        try:
            stream = self._stream(self._definition.text_id(identity_of(aggregate)))
            if stream is not None:
                restore_in(self._context.session, aggregate, stream)
        except BaseException:
            self._context.session.expire(aggregate)
            raise
        if stream is None:
            self._context.session.expire(aggregate)

    def _stream(self, aggregate_id: str) -> StoredStream | None:
        if aggregate_id not in self._streams:
            ids = list(islice(self._to_come, STREAMS_AT_ONCE)) if aggregate_id in self._to_come else []
            if aggregate_id not in ids:
                ids = [aggregate_id]
            for each in ids:
                self._to_come.pop(each, None)
            with observed("load", self._definition.aggregate_type) as observation:
                for stream in self._read(ids):
                    observation.events += len(stream.rows)
                    self._streams[stream.aggregate_id] = stream
        return self._streams.pop(aggregate_id, None)

    def _read(self, ids: Sequence[str]) -> Iterable[StoredStream]:
        connection = self._connection()
        options = statement_options(self._context)
        if len(ids) > 1:
            return read_streams(connection, self._definition, ids, options=options)
        stream = read_stream(connection, self._definition, ids[0], options=options)
        return () if stream is None else (stream,)

    def _connection(self) -> Connection:
        return self._context.session.connection(bind_arguments=dict(self._context.bind_arguments))
