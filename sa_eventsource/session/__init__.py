"""The unit of work and loading: what a session does for the aggregates in it."""

from sa_eventsource.session.commits import commit_token, on_committed
from sa_eventsource.session.declarations import on_mapped, on_mapping
from sa_eventsource.session.guards import protect_from_statements
from sa_eventsource.session.locking import lock_aggregate
from sa_eventsource.session.lost_races import is_conflict
from sa_eventsource.session.protected_rows import allow_changed, protect
from sa_eventsource.session.sqlalchemy_internals import copied, savepoints_begin_written
from sa_eventsource.session.tenants_of_instances import note_rows
from sa_eventsource.session.written_events import last_event_written, on_savepoint_undone

__all__ = [
    "allow_changed",
    "commit_token",
    "copied",
    "is_conflict",
    "last_event_written",
    "lock_aggregate",
    "note_rows",
    "on_committed",
    "on_mapped",
    "on_mapping",
    "on_savepoint_undone",
    "protect",
    "protect_from_statements",
    "savepoints_begin_written",
]
