"""What an anonymisation does not reach: events of archived streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, exists, func, select
from sqlalchemy.sql.visitors import iterate, replacement_traverse

from sa_eventsource.aggregates import definition_of
from sa_eventsource.events import StreamClosed
from sa_eventsource.exceptions import AnonymisationError
from sa_eventsource.privacy.field_rewriting import has_field
from sa_eventsource.store import select_raw_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Table
    from sqlalchemy.sql import ColumnElement

    from sa_eventsource.mapping import EventSourceTables
    from sa_eventsource.store import EventQuery

_AT_A_TIME = 1000
_SHOWN = 5
_OF_STREAM = frozenset({"aggregate_type", "aggregate_id"})


def archived_events(
    connection: Connection, tables: EventSourceTables, query: EventQuery[Any], fields: Sequence[str], last_position: int
) -> int:
    """Count the archived events that a query would select and that have one of some fields, not sealed.

    Of those in files nothing is known here: each counts, and a compacted stream of them is taken to have such fields where the
    query may select events of it.

    Args:
        connection: Where to read.
        tables: The tables of the log.
        query: The query, of the log.
        fields: The paths of the fields.
        last_position: Behind it, no event counts.

    Raises:
        AnonymisationError: There are such events of a compacted stream, or may be, in a file: its last state would go on showing
            what they say.
    """
    archives, archived = tables.archives, tables.archived_events
    if archives is None or archived is None:
        return 0
    is_present = archives.c.returned_at.is_(None)
    in_files = is_present, archives.c.place != archived.fullname, archives.c.first_position <= last_position
    in_files_shown = [each for each in _compacted(connection, archives, query, in_files) if _may_have(tables, query, each[0])]
    number: int = connection.scalar(select(func.coalesce(func.sum(archives.c.events), 0)).where(*in_files)) or 0
    same_stream = archives.c.aggregate_type == archived.c.aggregate_type, archives.c.aggregate_id == archived.c.aggregate_id
    is_compacted = exists().where(*same_stream, is_present, archives.c.is_compacted).correlate(archived).label("is_compacted")
    conditions = [_of(archived, query.table, each) for each in query.conditions]
    found = select_raw_events(archived).add_columns(is_compacted).where(*conditions, archived.c.position <= last_position)
    shown = dict.fromkeys(f"{aggregate_type} {aggregate_id!r} (in a file)" for aggregate_type, aggregate_id in in_files_shown)
    with connection.execute(found.order_by(archived.c.position), execution_options={"yield_per": _AT_A_TIME}) as rows:
        for row in rows:
            if has_field(row.event_data, fields):
                number += 1
                if row.is_compacted:
                    shown[f"{row.aggregate_type} {row.aggregate_id!r}"] = None
    if shown:
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        raise AnonymisationError(
            f"events of compacted streams have such fields, or may have them where they are in files, and their last states would "
            f"show them: {', '.join(list(shown)[:_SHOWN])}{more}. Bring these back first with unarchive(), and compact them again "
            "afterwards; or say with of() and of_type() that others are meant"
        )
    return number


def _compacted(
    connection: Connection, archives: Table, query: EventQuery[Any], in_files: Sequence[ColumnElement[bool]]
) -> list[tuple[str, str]]:
    """List the compacted streams in files that a query may select events of, as far as its conditions are about streams."""
    conditions = [_of(archives, query.table, each) for each in query.conditions if _is_about_streams(each, query.table)]
    found = select(archives.c.aggregate_type, archives.c.aggregate_id).where(*in_files, archives.c.is_compacted, *conditions)
    ordered = found.order_by(archives.c.aggregate_type, archives.c.aggregate_id)
    return [(row.aggregate_type, row.aggregate_id) for row in connection.execute(ordered)]


def _is_about_streams(condition: ColumnElement[bool], events: Table) -> bool:
    columns = [each for each in iterate(condition) if each.__visit_name__ in {"column", "select", "textclause"}]
    return all(getattr(each, "table", None) is events and getattr(each, "key", None) in _OF_STREAM for each in columns)


def _may_have(tables: EventSourceTables, query: EventQuery[Any], aggregate_type: str) -> bool:
    """Check whether a stream of a type may have events of the classes that a query asks for, as far as its class is known."""
    aggregate_class = tables.aggregate_classes.get(aggregate_type)
    if aggregate_class is None:
        return True
    applied: list[type[Any]] = [*definition_of(aggregate_class).handlers.functions(), StreamClosed]

    def is_applied(asked: type[Any]) -> bool:
        return any(issubclass(each, asked) or issubclass(asked, each) for each in applied)

    return all(any(map(is_applied, some)) for some in query.types)


def _of(archived: Table, events: Table, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Write a condition on the log as one on a table of archives, which has the same columns."""

    def in_archive(element: Any, **_: Any) -> Any:
        return archived.c[element.key] if getattr(element, "table", None) is events else None

    replaced: ColumnElement[bool] = replacement_traverse(and_(condition), {}, in_archive)
    return replaced
