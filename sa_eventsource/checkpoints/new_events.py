"""Asking a log, in one statement, which types of events have become visible since it was asked before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from sa_eventsource.store import current_snapshot, in_window

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import EventSourceTables


@dataclass(slots=True)
class NewEvents:
    """The types of the events that have become visible in a log since it was asked last.

    Attributes:
        tables: The log's tables.
        bind_arguments: What tells a session with several binds which to use.
    """

    tables: EventSourceTables
    bind_arguments: dict[str, Any]
    _snapshot: str | None = field(default=None, init=False)
    _position: int | None = field(default=None, init=False)

    def types(self, session: Session) -> Collection[str] | None:
        """List the types of the events that have become visible; None for the first time, when all may be new.

        Uses a transaction of its own, without a BEGIN where the database allows it.
        """
        if session.get_bind(**self.bind_arguments).dialect.name == "postgresql":
            return self._in_window(session)
        return self._behind_position(session)

    def _in_window(self, session: Session) -> Collection[str] | None:
        events = self.tables.events
        connection = session.connection(bind_arguments=self.bind_arguments, execution_options={"isolation_level": "AUTOCOMMIT"})
        now = func.pg_current_snapshot()
        new = select(events.c.event_type).where(*in_window(events, has_start=True, until=now)).distinct()
        try:
            if self._snapshot is None:
                self._snapshot = connection.execute(select(current_snapshot())).scalar_one()
                return None
            statement = select(current_snapshot(), func.array(new.scalar_subquery()))
            self._snapshot, types = connection.execute(statement, {"since": self._snapshot}).one()
        finally:
            session.rollback()
        return set(types)

    def _behind_position(self, session: Session) -> Collection[str] | None:
        events = self.tables.events
        connection = session.connection(bind_arguments=self.bind_arguments)
        last = func.coalesce(select(func.max(events.c.position)).scalar_subquery(), 0)
        try:
            before, self._position = self._position, connection.execute(select(last)).scalar_one()
            if before is None:
                return None
            if self._position == before:
                return ()
            return set(connection.scalars(select(events.c.event_type).where(events.c.position > before).distinct()))
        finally:
            session.rollback()
