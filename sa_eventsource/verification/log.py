"""Is the log itself whole? Versions without a hole, positions in their order, types that the code knows, ids of this cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime, Text, and_, cast, func, literal_column, not_, or_, select, type_coerce

from sa_eventsource.counting import counted
from sa_eventsource.events import ARCHIVED_TYPE, CLOSED_TYPE, current_class, is_retired
from sa_eventsource.exceptions import UnknownEventTypeError
from sa_eventsource.mapping import XID8
from sa_eventsource.store import database_of
from sa_eventsource.verification.findings import MOST_FINDINGS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sqlalchemy import ColumnElement, Connection, Row, Table

    from sa_eventsource.mapping import EventSourceTables


def check_streams(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find streams whose versions do not count from 1 on or go on when closed, or whose positions are not in their order."""
    events = tables.events
    stream, by_version = (events.c.aggregate_type, events.c.aggregate_id), events.c.version
    each = select(
        events.c.aggregate_type,
        events.c.aggregate_id,
        events.c.version,
        events.c.position,
        events.c.event_type,
        func.coalesce(func.lag(events.c.version).over(partition_by=stream, order_by=by_version), 0).label("version_before"),
        func.coalesce(func.lag(events.c.position).over(partition_by=stream, order_by=by_version), 0).label("position_before"),
        func.lag(events.c.event_type).over(partition_by=stream, order_by=by_version).label("type_before"),
    ).subquery()
    is_wrong = or_(
        and_(each.c.version != each.c.version_before + 1, each.c.event_type != ARCHIVED_TYPE),
        each.c.position <= each.c.position_before,
        each.c.type_before.in_([CLOSED_TYPE, ARCHIVED_TYPE]),
    )
    ordered = select(each).where(is_wrong).order_by(each.c.aggregate_type, each.c.aggregate_id, each.c.version)
    for row in connection.execute(ordered.limit(MOST_FINDINGS)):
        subject = f"{row.aggregate_type} {row.aggregate_id!r}"
        if row.version != row.version_before + 1 and row.event_type != ARCHIVED_TYPE:
            after = f"after version {row.version_before}" if row.version_before else "at its beginning"
            yield Finding(
                "streams", subject, f"version {row.version} stands {after}: events are missing. Restore them from a backup."
            )
        elif row.type_before in (CLOSED_TYPE, ARCHIVED_TYPE):
            yield Finding(
                "streams",
                subject,
                f"version {row.version} comes after the event that closed the stream: something other than the library wrote it",
            )
        elif row.position < 1:
            yield Finding(
                "streams",
                subject,
                f"version {row.version} has position {row.position}, and the first position is 1: what begins to follow the log "
                "passes over it",
            )
        else:
            yield Finding(
                "streams",
                subject,
                f"version {row.version} has position {row.position}, and the version before it {row.position_before}: whoever "
                "reads by position takes them in the wrong order",
            )


def check_aggregate_types(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find aggregate types that no class has: for the code, their streams are not there."""
    events = tables.events
    streams = func.count(events.c.aggregate_id.distinct())
    found = select(events.c.aggregate_type, streams).where(events.c.aggregate_type.not_in(list(tables.aggregate_classes)))
    for name, number in connection.execute(found.group_by(events.c.aggregate_type).order_by(events.c.aggregate_type)):
        yield Finding(
            "aggregate types",
            name,
            f"no class has the type, which {counted(number, 'stream has', 'streams have')}; import the module of its class, or, "
            f"where that was renamed, set __aggregate_type__ = {name!r} on it",
        )


def check_event_types(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find event types, and versions of them, that the code does not know."""
    events = tables.events
    found = select(events.c.event_type, func.max(events.c.event_version), func.count()).group_by(events.c.event_type)
    for name, version, number in connection.execute(found.order_by(events.c.event_type)):
        try:
            event_class = None if is_retired(name, version) else current_class(name, version)
        except UnknownEventTypeError:
            message = (
                f"no class declares the type, which {counted(number, 'event has', 'events have')}; import the module of its "
                "class, or, where that was renamed, list the name in its __former_types__"
            )
            yield Finding("event types", name, message)
            continue
        if event_class is not None and version > event_class.__event_version__:
            yield Finding(
                "event types",
                name,
                f"there are events of version {version}, and the code, which is older, knows {event_class.__event_version__}",
            )


def check_moments(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find events whose times Python cannot have: nobody reads them, and their rows have times that nobody reads either."""
    if not database_of(connection.dialect).is_server:
        return
    events = tables.events
    first = literal_column("TIMESTAMPTZ '0001-01-01T00:00:00Z'", DateTime(timezone=True))
    last = literal_column("TIMESTAMPTZ '9999-12-31T23:59:59.999999Z'", DateTime(timezone=True))
    times = (events.c.occurred_at, events.c.recorded_at)
    as_text = [cast(each, Text).label(each.name) for each in times]  # the driver could not make them times
    is_wrong = or_(*(not_(each.between(first, last)) for each in times))
    for subject, row in _wrong_events(connection, events, is_wrong, *as_text):
        yield Finding(
            "times",
            subject,
            f"version {row.version} occurred at {row.occurred_at} and was recorded at {row.recorded_at}; a time that is not within "
            "the years 1 to 9999 in UTC cannot be read, and so neither can the event, nor rows of read models that it has changed",
        )


def check_metadata(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find events whose metadata is no JSON object: the code that reads it expects names and their values."""
    if not database_of(connection.dialect).is_server:
        return
    events = tables.events
    kind = func.jsonb_typeof(events.c.metadata)
    for subject, row in _wrong_events(connection, events, kind != "object", kind.label("kind")):
        yield Finding(
            "metadata",
            subject,
            f"the metadata of version {row.version} is a JSON {row.kind}, and no object: something other than the library "
            "wrote it, and whoever reads it gets no dict",
        )


def _wrong_events(
    connection: Connection, events: Table, is_wrong: ColumnElement[bool], *columns: ColumnElement[Any]
) -> Iterator[tuple[str, Row[Any]]]:
    """Find events by stream and version, with the name of the stream and what is wrong of each: no more than are told."""
    which = (events.c.aggregate_type, events.c.aggregate_id, events.c.version)
    found = select(*which, *columns).where(is_wrong).order_by(*which)
    for row in connection.execute(found.limit(MOST_FINDINGS)):
        yield f"{row.aggregate_type} {row.aggregate_id!r}", row


def check_transactions(connection: Connection, tables: EventSourceTables) -> Generator[Finding, None, None]:
    """Find events with transaction ids that this cluster has yet to give out: they were moved here."""
    if database_of(connection.dialect).has_one_writer:
        return
    events = tables.events
    end = type_coerce(func.pg_snapshot_xmax(func.pg_current_snapshot()), XID8)
    number = connection.scalar(select(func.count()).select_from(events).where(type_coerce(events.c.transaction_id, XID8) >= end))
    if number:
        yield Finding(
            "transactions",
            tables.events.name,
            f"{counted(number, 'event has a transaction id', 'events have transaction ids')} of another database cluster; a worker "
            "that starts renumbers them, or says why not (sa-eventsource adopt)",
        )
