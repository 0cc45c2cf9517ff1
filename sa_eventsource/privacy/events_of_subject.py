"""Finding the events of someone: there is no index of them, so the log is looked through, before anybody has to wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Text, cast, or_, select

from sa_eventsource.events import sealed_names
from sa_eventsource.store import current_snapshot, database_of, in_window

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, Table

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.read_models import ReadModelDefinition

_MOST = 10_000
"""So many positions go into a condition; whose events are more has them looked for again where they are needed."""


@dataclass(frozen=True, slots=True)
class EventsOfSubject:
    """The events of some types in which something is sealed with keys of someone.

    Attributes:
        events: The log.
        names: The types' stored names.
        snapshot: What was looked at: what this snapshot sees, or more. None where it has not been looked for.
        positions: The positions of the events that were found.
    """

    events: Table
    names: Collection[str]
    snapshot: str | None = None
    positions: Sequence[int] = ()

    @classmethod
    def found(
        cls, connection: Connection, tables: EventSourceTables, key_ids: Sequence[UUID], models: Iterable[ReadModelDefinition]
    ) -> EventsOfSubject:
        """Look for those that read models take, without a lock; not where nobody else writes meanwhile, as on SQLite."""
        names = {name for each in models for name in each.stored_types} & sealed_names()
        log = cls(tables.events, names)
        snapshot = database_of(connection.dialect).snapshot(connection) if names else None
        if snapshot is None:
            return log
        # The snapshot is older than what the next statement sees: what is committed between them is looked at twice.
        positions = log.look(connection, key_ids) if key_ids else ()
        return log if len(positions) > _MOST else cls(tables.events, names, snapshot, positions)

    def with_newer(self, connection: Connection, key_ids: Sequence[UUID]) -> EventsOfSubject:
        """Look for those that have been committed since, now that there can be no more."""
        if self.snapshot is None:
            return self
        newer = self.look(connection, key_ids, since=self.snapshot)
        if len(newer) > _MOST:
            return EventsOfSubject(self.events, self.names)
        return EventsOfSubject(self.events, self.names, self.snapshot, [*self.positions, *newer])

    def conditions(self, definition: ReadModelDefinition, key_ids: Sequence[UUID]) -> list[ColumnElement[bool]]:
        """Select those that a model takes."""
        is_taken = self.events.c.event_type.in_(sorted(sealed_names().intersection(definition.stored_types)))
        return [
            is_taken,
            self._has_one_of(key_ids) if self.snapshot is None else self.events.c.position.in_(self.positions),
        ]

    def look(self, connection: Connection, key_ids: Sequence[UUID], *, since: str | None = None) -> Sequence[int]:
        """Read the positions of those in which something is sealed with some keys; of very many, some.

        Args:
            connection: Where to read.
            key_ids: The keys.
            since: A snapshot; then only of events that it does not see.
        """
        where = [self.events.c.event_type.in_(sorted(self.names)), self._has_one_of(key_ids)]
        if since is not None:
            where += in_window(self.events, has_start=True, until=current_snapshot())
        statement = select(self.events.c.position).where(*where).limit(_MOST + 1)
        return connection.execute(statement, {} if since is None else {"since": since}).scalars().all()

    def _has_one_of(self, key_ids: Sequence[UUID]) -> ColumnElement[bool]:
        data = cast(self.events.c.event_data, Text)
        return or_(*(data.contains(key_id.hex) for key_id in key_ids))
