"""What instances of aggregates ask of the session they are in, which they know only by its protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import object_session

from sa_eventsource.aggregates import AggregateRoot
from sa_eventsource.session import hydration, ledger, written_events
from sa_eventsource.session.sqlalchemy_internals import has_statement_hooks, savepoints_begin_written

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from sa_eventsource.mapping import EventSourceTables


class SessionSide:
    """Acts for the sessions: see :class:`sa_eventsource.aggregates.instance.SessionSide`."""

    def check_active(self, aggregate: AggregateRoot[Any]) -> None:
        """Refuse an event that the session's transaction could no longer write."""
        session = object_session(aggregate)
        if session is not None:
            ledger.check_active(session, aggregate)

    def keep(self, aggregate: AggregateRoot[Any]) -> None:
        """Hold an aggregate until its pending events are written or discarded."""
        session = object_session(aggregate)
        if session is not None:
            ledger.keep(session, aggregate)

    def reload_state(self, session: Session, aggregate: AggregateRoot[Any]) -> None:
        """Set the state from the stored events that the pending ones follow, and from these."""
        hydration.reload_state(session, aggregate)

    def first_event_written(self, session: Session, connection: Connection, tables: EventSourceTables) -> UUID | None:
        """Get the id of the first event that a transaction has written to a log; None if it wrote none."""
        return written_events.first_event_written(session, connection, tables)

    def has_statement_hooks(self, session: Session) -> bool:
        """Check whether the application listens to the session's statements, and may keep aggregates from them."""
        return has_statement_hooks(session)

    def savepoints_begin_written(self, session: Session) -> AbstractContextManager[None]:
        """Have the rollback of a savepoint undo what came after it and no more, also within a flush."""
        return savepoints_begin_written(session, AggregateRoot)
