"""Tables, their rows as classes, and the selectable that aggregates are mapped to."""

from sa_eventsource.mapping.aggregate_ids import ID_TYPES, STORED_ID, UuidId, compared_as_text, id_as_text
from sa_eventsource.mapping.column_types import (
    DOCUMENT,
    MAX_NAME_LENGTH,
    XID8,
    TransactionId,
    UtcDateTime,
    current_transaction_id,
    database_clock,
)
from sa_eventsource.mapping.commands_table import DONE, PARKED, SCHEDULED
from sa_eventsource.mapping.event_columns import (
    APPENDED,
    DOCUMENTS,
    EVENT_COLUMNS,
    EXPORTED,
    KINDS,
    MOVED,
    READ,
    as_json,
    json_members,
    json_object,
    json_row,
)
from sa_eventsource.mapping.immutability import SWITCH, create_statements, drop_statements
from sa_eventsource.mapping.named_indexes import add_index
from sa_eventsource.mapping.records import EventRecord, event_record
from sa_eventsource.mapping.schemas import regclass_name, schema_of
from sa_eventsource.mapping.session_arguments import (
    async_session_maker,
    check_any_session,
    check_async_session,
    check_class,
    check_connection,
    check_session,
    present_session,
    session_maker,
    tables_of_base,
)
from sa_eventsource.mapping.statements import TableStatement, lock_table, quoted
from sa_eventsource.mapping.streams import streams_of
from sa_eventsource.mapping.tables import (
    EventSourceOptions,
    EventSourceTables,
    find_tables,
    is_events_table,
    tables_on,
    undone_on_failure,
)
from sa_eventsource.mapping.trigger_faults import trigger_faults

__all__ = [
    "APPENDED",
    "DOCUMENT",
    "DOCUMENTS",
    "DONE",
    "EVENT_COLUMNS",
    "EXPORTED",
    "ID_TYPES",
    "KINDS",
    "MAX_NAME_LENGTH",
    "MOVED",
    "PARKED",
    "READ",
    "SCHEDULED",
    "STORED_ID",
    "SWITCH",
    "XID8",
    "EventRecord",
    "EventSourceOptions",
    "EventSourceTables",
    "TableStatement",
    "TransactionId",
    "UtcDateTime",
    "UuidId",
    "add_index",
    "as_json",
    "async_session_maker",
    "check_any_session",
    "check_async_session",
    "check_class",
    "check_connection",
    "check_session",
    "compared_as_text",
    "create_statements",
    "current_transaction_id",
    "database_clock",
    "drop_statements",
    "event_record",
    "find_tables",
    "id_as_text",
    "is_events_table",
    "json_members",
    "json_object",
    "json_row",
    "lock_table",
    "present_session",
    "quoted",
    "regclass_name",
    "schema_of",
    "session_maker",
    "streams_of",
    "tables_of_base",
    "tables_on",
    "trigger_faults",
    "undone_on_failure",
]
