"""What was known of a stream at a moment, on either of an event's two times.

``occurred_at`` is the domain's time, and events may be written in any order of it: as it was then are the events that had happened,
whatever was written in between. ``recorded_at`` is the log's, and a stream's events are written one after the other: as we knew it
then is a beginning of the stream. Clocks are set back now and then, so that a version may bear an earlier time than the one before
it. That version was not known before its predecessor, so the beginning ends before the first event that was recorded later: every
answer is a state that the aggregate has had, and a later moment never gives less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, and_, func, literal_column, select

from sa_eventsource.arguments import comparable_moment
from sa_eventsource.store.archived_streams import without_archived

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.arguments import TimeAxis

_BEHIND_EVERY_VERSION = literal_column(str(2**31), BigInteger)


def known_at(events: Table, aggregate_type: str, aggregate_id: str, moment: datetime, axis: TimeAxis) -> ColumnElement[bool]:
    """Select the events of one stream that were there at a moment, which is included.

    Args:
        events: The log.
        aggregate_type: Type name of the stream.
        aggregate_id: Its id as stored.
        moment: The moment, with a time zone.
        axis: ``occurred``: events that had happened by then; ``recorded``: the stream as far as it had been written by then.
    """
    moment = comparable_moment(moment)
    stream = and_(events.c.aggregate_type == aggregate_type, events.c.aggregate_id == aggregate_id)
    if axis == "occurred":
        return and_(stream, events.c.occurred_at <= moment)
    later = events.alias("later")
    first_later = select(func.min(later.c.version)).where(
        later.c.aggregate_type == aggregate_type, later.c.aggregate_id == aggregate_id, later.c.recorded_at > moment
    )
    return and_(stream, events.c.version < func.coalesce(first_later.scalar_subquery(), _BEHIND_EVERY_VERSION))


def version_recorded_at(connection: Connection, events: Table, aggregate_type: str, aggregate_id: str, moment: datetime) -> int:
    """Find the version that a stream had reached at a moment, by the times at which its events were recorded; 0 for none.

    Of an archived stream that is not known without its events.
    """
    known = known_at(events, aggregate_type, aggregate_id, moment, "recorded")
    version: int | None = connection.scalar(select(func.max(events.c.version)).where(known, *without_archived(events)))
    return version or 0
