"""The unit of work and loading: the only place that listens to SQLAlchemy."""

from sa_eventsource.session import guards, hydration, unit_of_work
from sa_eventsource.session.guards import protect_from_statements
from sa_eventsource.session.locking import lock_aggregate
from sa_eventsource.session.unit_of_work import protect

unit_of_work.listen()
hydration.listen()
guards.listen()

__all__ = ["lock_aggregate", "protect", "protect_from_statements"]
