"""An anonymisation in a transaction: its record, the next batch of events, and what rests on them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, bindparam, delete, func, insert, select, tuple_, update

from sa_eventsource.events import decode
from sa_eventsource.exceptions import AnonymisationError, EventDecodeError, UnknownEventTypeError
from sa_eventsource.integrity import recorded_rewriting
from sa_eventsource.privacy.archived_events import archived_events
from sa_eventsource.privacy.field_rewriting import FieldChange, rewritten
from sa_eventsource.privacy.of_session import context_of, expire_aggregates
from sa_eventsource.projections import locked_followers, rebuild_rows_of
from sa_eventsource.store import (
    EventQuery,
    Reading,
    clear_texts,
    database_of,
    select_events,
    stored_payloads,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Row, Table
    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.privacy.field_rewriting import Rewriting
    from sa_eventsource.read_models import ReadModelDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class Anonymised:
    """How far an anonymisation has come.

    Attributes:
        name: Its name.
        is_finished: Whether all events that there were in the log when it began have been looked at.
        has_only_begun: Whether this call has looked at no event, as it has only noted where the log ends: call it again.
        position: The position up to which they have.
        events: How many events were rewritten, by all calls.
        archived_events: How many events it does not reach, as they are archived: those in the table that the query selects and that
            have such a field, and all that are in files. Bring their streams back, and anonymise again under another name.
        changes: What this call has changed, or would have. It holds what was there before: do not keep it.
        models_to_rebuild: The read models that take such events and cannot be rebuilt in part, as they have ``@handles`` methods:
            rebuild them as a whole once it is finished.
    """

    name: str
    is_finished: bool
    has_only_begun: bool
    position: int
    events: int
    archived_events: int
    changes: tuple[FieldChange, ...]
    models_to_rebuild: tuple[str, ...]


@dataclass(slots=True)
class AnonymisationRun:
    """An anonymisation in a transaction."""

    session: Session
    connection: Connection
    tables: EventSourceTables
    table: Table
    events: EventQuery[Any]
    paths: list[tuple[str, ...]]
    rewrite: Rewriting
    name: str
    record: Any = None

    def begun(self) -> Any:
        """Read and lock the record of the anonymisation; None if there is none.

        Raises:
            ValueError: It is another one's.
        """
        database_of(self.connection.dialect).become_writer(self.connection, self.table)
        self.record = self.connection.execute(
            select(self.table).where(self.table.c.name == self.name).with_for_update()
        ).one_or_none()
        if self.record is not None:
            self._check()
        return self.record

    def begin(self, reason: str) -> Anonymised:
        """Note where the log ends: what is appended from then on is not looked at.

        Where another transaction has begun it meanwhile, nothing is done: the next call goes on.
        """
        events = self.tables.events
        database = database_of(self.connection.dialect)
        database.lock_log(self.connection, events, to_change=True)
        if self.begun() is not None:
            return self._as_recorded()
        last = self._last_position()
        archived = self._archived_events(last)
        context = context_of(self.session)
        now = datetime.now(UTC)
        self.connection.execute(
            insert(self.table).values(
                name=self.name,
                fields=self._fields(),
                function=self._function(),
                reason=reason,
                metadata=dict(context.metadata) or None,
                correlation_id=context.correlation_id,
                causation_id=context.causation_id,
                begun_at=now,
                position=0,
                last_position=last,
                events=0,
                archived_events=archived,
                models_to_rebuild=[],
                finished_at=now if last == 0 else None,
            )
        )
        return Anonymised(
            name=self.name,
            is_finished=last == 0,
            has_only_begun=True,
            position=0,
            events=0,
            archived_events=archived,
            changes=(),
            models_to_rebuild=(),
        )

    def preview(self, at_most: int) -> Anonymised:
        """Say what the next events would become."""
        self.record = self.connection.execute(select(self.table).where(self.table.c.name == self.name)).one_or_none()
        if self.record is not None:
            self._check()
        rows = self._next_rows(at_most)
        _, changes = self._rewritten(rows)
        return self._result(rows, at_most, changes, set())

    def go_on(self, at_most: int) -> Anonymised:
        """Rewrite the next events."""
        if self.record.finished_at is not None:
            return self._result([], 1, [], set())
        connection, events = self.connection, self.tables.events
        found = self._next_rows(at_most)
        # Checkpoints before the log, as a worker and a rebuild take them.
        models = [each for _, each in sorted(self.tables.read_models.items()) if _takes(each, found)]
        followers = {each: locked_followers(connection, each) for each in models if not each.handlers}
        if found:
            # Who has read what is rewritten may be about to store it: a snapshot is written with an event.
            database_of(connection.dialect).lock_log(connection, events, to_change=True)
        rows = self._read([events.c.event_id.in_([row.event_id for row in found])]) if found else []
        payloads, changes = self._rewritten(rows)
        to_rebuild: set[str] = set()
        if changes:
            self._store(rows, payloads)
            changed = [row for row in rows if row.event_id in payloads]
            self._delete_snapshots(changed)
            for each in models:
                if not _takes(each, changed):
                    continue
                if each.handlers:
                    to_rebuild.add(each.name)
                else:
                    conditions = [events.c.event_id.in_(list(payloads))]
                    rebuild_rows_of(connection, each, followers[each], conditions)
            expire_aggregates(self.session, self.tables, tuple(each.model for each in models))
        result = self._result(found, at_most, changes, to_rebuild, len(payloads))
        connection.execute(
            update(self.table)
            .where(self.table.c.name == self.name)
            .values(
                position=result.position,
                events=result.events,
                models_to_rebuild=list(result.models_to_rebuild),
                finished_at=datetime.now(UTC) if result.is_finished else None,
            )
        )
        return result

    def _check(self) -> None:
        if (self.record.fields, self.record.function) != (self._fields(), self._function()):
            raise ValueError(
                f"anonymise(name={self.name!r}): that one has fields {self.record.fields} and function {self.record.function}. "
                "Go on with these, or choose another name"
            )

    def _fields(self) -> list[str]:
        return [".".join(each) for each in self.paths]

    def _function(self) -> str:
        function: Any = self.rewrite
        return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__qualname__)}"

    def _next_rows(self, at_most: int) -> Sequence[Row[Any]]:
        position = self.tables.events.c.position
        after = 0 if self.record is None else self.record.position
        where = [*self.events.conditions, position > after]
        if self.record is not None:
            where.append(position <= self.record.last_position)
        return self._read(where, at_most)

    def _read(self, conditions: Sequence[Any], at_most: int | None = None) -> Sequence[Row[Any]]:
        events = self.tables.events
        statement = select_events(events).where(*conditions).order_by(events.c.position).limit(at_most)
        return self.connection.execute(statement).all()

    def _rewritten(self, rows: Sequence[Row[Any]]) -> tuple[dict[Any, str], list[FieldChange]]:
        """Give the payloads of those that change, by the events' ids, each proven to be read by its class."""
        payloads: dict[Any, str] = {}
        changes: list[FieldChange] = []
        changed: list[Row[Any]] = []
        for row in rows:
            payload, found = rewritten(row, self.paths, self.rewrite)
            if found:
                payloads[row.event_id] = payload
                changes += found
                changed.append(row)
        stored = stored_payloads(changed)._replace(texts=list(payloads.values()))
        texts = clear_texts(self.connection, self.tables.events, stored, Reading.MASKED)
        for row, text in zip(changed, texts, strict=True):
            try:
                decode(row.event_type, row.event_version, text, event_id=row.event_id)
            except (EventDecodeError, UnknownEventTypeError) as error:
                fields = [each.field for each in changes if each.event_id == row.event_id]
                reason = f"what {', '.join(fields)} would become is not read by its class: {error}"
                raise AnonymisationError(reason, event_type=row.event_type, event_id=row.event_id, fields=fields) from error
        return payloads, changes

    def _store(self, rows: Sequence[Row[Any]], payloads: Mapping[Any, str]) -> None:
        """Put the payloads in place of those that are there."""
        events, database = self.tables.events, database_of(self.connection.dialect)
        which = [events.c[name] == bindparam(f"which_{name}") for name in ("event_id", "aggregate_type", "aggregate_id")]
        statement = update(events).where(*which).values(event_data=database.document(bindparam("payload", type_=Text)))
        parameters = [
            {
                "which_event_id": row.event_id,
                "which_aggregate_type": row.aggregate_type,
                "which_aggregate_id": row.aggregate_id,
                "payload": payloads[row.event_id],
            }
            for row in rows
            if row.event_id in payloads
        ]
        with (
            recorded_rewriting(self.connection, self.tables, payloads, reason=self.record.reason),
            database.letting_events_change(self.connection, events),
        ):
            self.connection.execute(statement, parameters)

    def _delete_snapshots(self, rows: Sequence[Row[Any]]) -> None:
        snapshots = self.tables.snapshots
        streams = sorted({(row.aggregate_type, row.aggregate_id) for row in rows})
        stream = tuple_(snapshots.c.aggregate_type, snapshots.c.aggregate_id)
        self.connection.execute(delete(snapshots).where(stream.in_(streams)))

    def _last_position(self) -> int:
        return self.connection.scalar(select(func.coalesce(func.max(self.tables.events.c.position), 0))) or 0

    def _archived_events(self, last_position: int) -> int:
        return archived_events(self.connection, self.tables, self.events, self._fields(), last_position)

    def _as_recorded(self) -> Anonymised:
        record = self.record
        return Anonymised(
            name=self.name,
            is_finished=record.finished_at is not None,
            has_only_begun=True,
            position=record.position,
            events=record.events,
            archived_events=record.archived_events,
            changes=(),
            models_to_rebuild=tuple(record.models_to_rebuild),
        )

    def _result(
        self, rows: Sequence[Row[Any]], at_most: int, changes: Sequence[FieldChange], to_rebuild: set[str], number: int = 0
    ) -> Anonymised:
        record = self.record
        is_finished = len(rows) < at_most
        last = rows[-1].position if rows else 0
        before: list[str] = [] if record is None else record.models_to_rebuild
        return Anonymised(
            name=self.name,
            is_finished=is_finished,
            has_only_begun=False,
            position=record.last_position if record is not None and is_finished else last,
            events=number + (0 if record is None else record.events),
            archived_events=self._archived_events(self._last_position()) if record is None else record.archived_events,
            changes=tuple(changes),
            models_to_rebuild=tuple(sorted(to_rebuild.union(before))),
        )


def _takes(definition: ReadModelDefinition, rows: Sequence[Row[Any]]) -> bool:
    return any(row.event_type in definition.stored_types and definition.takes_from(row.aggregate_type) for row in rows)
