"""A declaration as SQL for PostgreSQL: one statement that takes events from the log and brings rows up to date.

Rows that Python works out have two, one that reads and one that writes.
"""

from sa_eventsource.read_models.sql.event_rows import events_as_rows
from sa_eventsource.read_models.sql.events_of_row import of_row, of_streams_of_row
from sa_eventsource.read_models.sql.folded_rows import folded_rows
from sa_eventsource.read_models.sql.grouping import is_outdated
from sa_eventsource.read_models.sql.streams_of_rows import of_streams, streams_of_rows
from sa_eventsource.read_models.sql.write import Selection, WriteStatements, beginning_statement, write_statements

__all__ = [
    "Selection",
    "WriteStatements",
    "beginning_statement",
    "events_as_rows",
    "folded_rows",
    "is_outdated",
    "of_row",
    "of_streams",
    "of_streams_of_row",
    "streams_of_rows",
    "write_statements",
]
