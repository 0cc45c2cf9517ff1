"""Forgetting someone: the keys are destroyed, and with them every personal value that the log holds of that person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import Text, cast, delete, insert, or_, select, update

from sa_eventsource.arguments import check_written
from sa_eventsource.events import SEALED_BEGINNING
from sa_eventsource.exceptions import ForgettingError
from sa_eventsource.mapping import check_async_session, check_session, present_session
from sa_eventsource.privacy.events_of_subject import EventsOfSubject
from sa_eventsource.privacy.of_base import checked_subject, personal_data_of_base
from sa_eventsource.privacy.of_session import context_of, expire_aggregates
from sa_eventsource.projections import locked_followers, rebuild_rows_of
from sa_eventsource.store import database_of, flush_first, one_at_a_time, require_transaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Table
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, scoped_session

    from sa_eventsource.privacy.of_base import PersonalDataOfBase
    from sa_eventsource.read_models import ReadModelDefinition
    from sa_eventsource.types import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """Someone who is forgotten.

    Attributes:
        subject: Who.
        reason: Why.
        forgotten_at: When, in UTC.
        metadata: Who did it, and whatever else the event context said then.
        is_repeated: Whether that had been done before; then nothing was done, and the rest says what was then.
    """

    subject: str
    reason: str
    forgotten_at: datetime
    metadata: Mapping[str, JsonValue]
    is_repeated: bool


def forget(session: Session | scoped_session[Session], subject: object, *, reason: str, base: Any = None) -> Forgotten:
    """Forget someone: from the commit on, every personal field of theirs is read as its placeholder, everywhere.

    This is done in the session's transaction, which is flushed first. The keys of the subject are destroyed, snapshots that hold
    something of theirs are deleted, and rows of read models that have it in clear are rebuilt. A row records whom, by whom (from
    the event context), when and why. Whoever appends or writes something of theirs at this moment is waited for. Aggregates and
    such rows in the session are expired. Roll back, and nothing has happened.

    Give it a transaction of its own: it holds locks that others wait for, and may itself be the victim of a deadlock, which a retry
    mends (:func:`~sa_eventsource.session.retry_on_conflict`).

    Args:
        session: The session. The caller commits.
        subject: Whom: what the field holds that ``Personal(subject=...)`` names; a text, a whole number or a UUID.
        reason: Why, for the record: ``"request of 2026-11-29"``. It is kept for good: write nothing personal.
        base: The declarative base of the log; None for the only one that has master keys.

    Returns:
        What is on record.

    Raises:
        DeclarationError: The base has no master keys, or none is given and several have.
        ReadModelChangedError: The rows of such a model were made under another declaration. Rebuild it first.
        ForgettingError: The transaction sees one state of the database throughout: use READ COMMITTED.
        TypeError: An argument is of another type.
        ValueError: The reason is empty, or the subject no text of 1 to 255 characters.
    """
    check_session("forget()", session, instead="async_forget")
    found = present_session(session)
    whom = checked_subject("forget", subject)
    check_written("forget", "reason", reason)
    of_base = personal_data_of_base("forget", base)
    flush_first(found)
    connection = found.connection(bind_arguments=of_base.tables.bind_arguments)
    require_transaction(connection)
    database = database_of(connection.dialect)
    if not database.has_one_writer and database.sees_one_state(connection):
        raise ForgettingError(whom, "its transaction sees one state of the database throughout; use one at READ COMMITTED")
    return _forget(found, connection, of_base, whom, reason)


async def async_forget(session: AsyncSession, subject: object, *, reason: str, base: Any = None) -> Forgotten:
    """Forget someone. As :func:`forget`."""
    check_async_session("async_forget()", session, instead="forget")
    return await session.run_sync(forget, subject, reason=reason, base=base)


def _forget(session: Session, connection: Connection, of_base: PersonalDataOfBase, whom: str, reason: str) -> Forgotten:
    tables, keys, forgotten = of_base.tables, of_base.subject_keys, of_base.forgotten_subjects
    one_at_a_time(connection, tables)
    database_of(connection.dialect).become_writer(connection, keys)
    models = [each for _, each in sorted(tables.read_models.items()) if _is_in_clear(each)]
    known = connection.execute(select(keys.c.key_id).where(keys.c.subject == whom, keys.c.forgotten_at.is_(None))).scalars().all()
    theirs = EventsOfSubject.found(connection, tables, known, models)
    # Checkpoints before keys, as a worker takes them.
    in_clear = [(each, locked_followers(connection, each)) for each in models]
    key_ids, is_repeated = _locked(connection, keys, whom)
    if is_repeated:
        record = connection.execute(select(forgotten).where(forgotten.c.subject == whom)).one()
        return Forgotten(
            subject=whom,
            reason=record.reason,
            forgotten_at=record.forgotten_at,
            metadata=record.metadata or {},
            is_repeated=True,
        )
    now, context = datetime.now(UTC), context_of(session)
    destroyed = {"wrapped_key": None, "master_key": None, "forgotten_at": now}
    connection.execute(update(keys).where(keys.c.subject == whom).values(destroyed))
    _delete_snapshots(connection, tables.snapshots, key_ids)
    theirs = theirs.with_newer(connection, key_ids)
    for definition, followers in in_clear:
        rebuild_rows_of(connection, definition, followers, theirs.conditions(definition, key_ids))
    connection.execute(
        insert(forgotten).values(
            subject=whom,
            reason=reason,
            metadata=dict(context.metadata) or None,
            correlation_id=context.correlation_id,
            causation_id=context.causation_id,
            forgotten_at=now,
        )
    )
    expire_aggregates(session, tables, tuple(each.model for each, _ in in_clear))
    return Forgotten(subject=whom, reason=reason, forgotten_at=now, metadata=context.metadata, is_repeated=False)


def _locked(connection: Connection, keys: Table, whom: str) -> tuple[Sequence[UUID], bool]:
    """Lock the keys of a subject; return their ids, and whether they are destroyed.

    One without keys gets a row that says that it is forgotten: who is about to make the first key waits for it, or is waited for.
    """
    locking = select(keys.c.key_id, keys.c.forgotten_at).where(keys.c.subject == whom).order_by(keys.c.generation).with_for_update()
    rows = connection.execute(locking).all()
    if not rows:
        new = {"key_id": uuid4(), "subject": whom, "generation": 1}
        connection.execute(database_of(connection.dialect).insert(keys).values(new).on_conflict_do_nothing())
    rows = connection.execute(locking).all()  # again, where there were some: who was waited for may have made another one
    return [row.key_id for row in rows], all(row.forgotten_at is not None for row in rows)


def _is_in_clear(definition: ReadModelDefinition) -> bool:
    return definition.takes_personal_data == "clear"


def _delete_snapshots(connection: Connection, snapshots: Table, key_ids: Sequence[UUID]) -> None:
    """Delete the snapshots that were sealed with one of these keys, among others: nobody can open them any more."""
    text = cast(snapshots.c.state, Text)
    sealed = or_(*(text.contains(key_id.hex) for key_id in key_ids))
    connection.execute(delete(snapshots).where(text.startswith(SEALED_BEGINNING, autoescape=True), sealed))
