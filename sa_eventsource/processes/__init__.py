"""Process managers: what happens after something has happened, across several aggregates and over time."""

from sa_eventsource.processes.following_process import DeclaredProcess, ProcessSubscription, ids_derived_from
from sa_eventsource.processes.process_manager import ProcessManager
from sa_eventsource.processes.reactions import After, reactions_of, reacts

__all__ = ["After", "DeclaredProcess", "ProcessManager", "ProcessSubscription", "ids_derived_from", "reactions_of", "reacts"]
