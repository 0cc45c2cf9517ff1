"""The event log: appending, reading back what aggregates are rebuilt from, snapshots, queries."""

from sa_eventsource.store.append import (
    CONTEXT_KEY,
    Appended,
    AppendRefusedError,
    LogAppend,
    StreamAppend,
    append,
    in_context,
    insert_events,
    on_appended,
    tell_listeners,
)
from sa_eventsource.store.conflicts import current_version, raise_explained
from sa_eventsource.store.connections import (
    autoflush,
    beside,
    flush_first,
    is_in_autocommit,
    require_own_transaction,
    require_transaction,
)
from sa_eventsource.store.database_errors import (
    DEADLOCK,
    READ_ONLY,
    SERIALIZATION_FAILURE,
    UNDEFINED_TABLE,
    Meaning,
    advice_on,
    code_of,
    is_refusal,
    is_schema_mismatch,
    is_taken_by_another_row,
    meaning_of,
    message_of,
    said_by_database,
)
from sa_eventsource.store.databases import Database, database_of, milliseconds
from sa_eventsource.store.driver_statement import DriverStatement, is_execution_heard
from sa_eventsource.store.event_conditions import select_events, stored_names
from sa_eventsource.store.event_query import AsyncEventQuery, EventQuery
from sa_eventsource.store.insert_statements import insert_statements
from sa_eventsource.store.known_at import known_at, version_recorded_at
from sa_eventsource.store.own_events import written_earlier
from sa_eventsource.store.raw_events import event_members, not_json, select_raw_events, stored_members
from sa_eventsource.store.reading_events import read_events
from sa_eventsource.store.recording_times import RECORDING_TIME, recording_time
from sa_eventsource.store.routing import connection_for, locate
from sa_eventsource.store.sealing import (
    Opened,
    Reading,
    Sealing,
    StoredPayload,
    StoredState,
    clear_payloads,
    is_sealed_state,
    opened_with_states,
    recorded_events,
    recorded_in_parts,
    set_sealing,
)
from sa_eventsource.store.snapshots import write_snapshots
from sa_eventsource.store.stored_streams import STREAMS_AT_ONCE, StoredStream, read_stream, read_streams
from sa_eventsource.store.windows import between_positions, current_snapshot, in_window, taken, visible_in

__all__ = [
    "CONTEXT_KEY",
    "DEADLOCK",
    "READ_ONLY",
    "RECORDING_TIME",
    "SERIALIZATION_FAILURE",
    "STREAMS_AT_ONCE",
    "UNDEFINED_TABLE",
    "AppendRefusedError",
    "Appended",
    "AsyncEventQuery",
    "Database",
    "DriverStatement",
    "EventQuery",
    "LogAppend",
    "Meaning",
    "Opened",
    "Reading",
    "Sealing",
    "StoredPayload",
    "StoredState",
    "StoredStream",
    "StreamAppend",
    "advice_on",
    "append",
    "autoflush",
    "beside",
    "between_positions",
    "clear_payloads",
    "code_of",
    "connection_for",
    "current_snapshot",
    "current_version",
    "database_of",
    "event_members",
    "flush_first",
    "in_context",
    "in_window",
    "insert_events",
    "insert_statements",
    "is_execution_heard",
    "is_in_autocommit",
    "is_refusal",
    "is_schema_mismatch",
    "is_sealed_state",
    "is_taken_by_another_row",
    "known_at",
    "locate",
    "meaning_of",
    "message_of",
    "milliseconds",
    "not_json",
    "on_appended",
    "opened_with_states",
    "raise_explained",
    "read_events",
    "read_stream",
    "read_streams",
    "recorded_events",
    "recorded_in_parts",
    "recording_time",
    "require_own_transaction",
    "require_transaction",
    "said_by_database",
    "select_events",
    "select_raw_events",
    "set_sealing",
    "stored_members",
    "stored_names",
    "taken",
    "tell_listeners",
    "version_recorded_at",
    "visible_in",
    "write_snapshots",
    "written_earlier",
]
