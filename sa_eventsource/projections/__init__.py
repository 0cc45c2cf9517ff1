"""Read models that follow the log: checkpoints, catching up, rebuilding, and the manager that does it for an application."""

from sa_eventsource.projections.manager import ReadModelManager, ReadModelStatus

__all__ = ["ReadModelManager", "ReadModelStatus"]
