"""The unit of work and loading: the only place that listens to SQLAlchemy."""

from sa_eventsource.session import guards, hydration, unit_of_work
from sa_eventsource.session.locking import lock_aggregate

unit_of_work.listen()
hydration.listen()
guards.listen()

__all__ = ["lock_aggregate"]
