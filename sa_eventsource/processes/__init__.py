"""Process managers: what happens after something has happened, across several aggregates and over time."""

from sa_eventsource.processes.process_manager import ProcessManager
from sa_eventsource.processes.reactions import After, reacts

__all__ = ["After", "ProcessManager", "reacts"]
