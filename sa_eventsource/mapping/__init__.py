"""Tables, their rows as classes, and the selectable that aggregates are mapped to."""

from sa_eventsource.mapping.aggregate_ids import ID_TYPES, STORED_ID, id_as_text
from sa_eventsource.mapping.column_types import MAX_NAME_LENGTH
from sa_eventsource.mapping.records import EventRecord, event_record
from sa_eventsource.mapping.session_arguments import (
    async_session_maker,
    check_any_session,
    check_async_session,
    check_class,
    check_connection,
    check_session,
    session_maker,
    tables_of_base,
)
from sa_eventsource.mapping.streams import streams_of
from sa_eventsource.mapping.tables import (
    EventSourceOptions,
    EventSourceTables,
    find_tables,
    is_events_table,
    tables_on,
    undone_on_failure,
)

__all__ = [
    "ID_TYPES",
    "MAX_NAME_LENGTH",
    "STORED_ID",
    "EventRecord",
    "EventSourceOptions",
    "EventSourceTables",
    "async_session_maker",
    "check_any_session",
    "check_async_session",
    "check_class",
    "check_connection",
    "check_session",
    "event_record",
    "find_tables",
    "id_as_text",
    "is_events_table",
    "session_maker",
    "streams_of",
    "tables_of_base",
    "tables_on",
    "undone_on_failure",
]
