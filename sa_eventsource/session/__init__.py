"""The unit of work and loading: the only place that listens to SQLAlchemy."""

from sa_eventsource.aggregates import set_session_side
from sa_eventsource.session import commits, declarations, guards, hydration, instances, ledger, unit_of_work
from sa_eventsource.session.commits import commit_token, on_committed
from sa_eventsource.session.declarations import on_mapped
from sa_eventsource.session.guards import protect_from_statements
from sa_eventsource.session.ledger import on_savepoint_undone
from sa_eventsource.session.locking import lock_aggregate
from sa_eventsource.session.sqlalchemy_internals import copied
from sa_eventsource.session.unit_of_work import protect

unit_of_work.listen()
ledger.listen()
hydration.listen()
guards.listen()
commits.listen()
declarations.listen()
set_session_side(instances.SessionSide())

__all__ = [
    "commit_token",
    "copied",
    "lock_aggregate",
    "on_committed",
    "on_mapped",
    "on_savepoint_undone",
    "protect",
    "protect_from_statements",
]
