"""What follows the log: read models and subscriptions, their checkpoints, the worker, catching up, rebuilding."""

from sa_eventsource.projections.announcements import Announcer
from sa_eventsource.projections.async_worker import AsyncWorker
from sa_eventsource.projections.clusters import adopt
from sa_eventsource.projections.consumers import consumers_on
from sa_eventsource.projections.failures import RetryPolicy
from sa_eventsource.projections.manager import ReadModelManager
from sa_eventsource.projections.parked import ParkedStream, drop_stream, parked_streams, resume, retry_stream
from sa_eventsource.projections.replayer import EventReplayer
from sa_eventsource.projections.rounds import Pace
from sa_eventsource.projections.status import ConsumerStatus, OldestTransaction, oldest_transaction, problems
from sa_eventsource.projections.subscriptions import subscribe
from sa_eventsource.projections.waiting import async_wait_for, wait_for, waiting_for
from sa_eventsource.projections.worker import Worker

__all__ = [
    "Announcer",
    "AsyncWorker",
    "ConsumerStatus",
    "EventReplayer",
    "OldestTransaction",
    "Pace",
    "ParkedStream",
    "ReadModelManager",
    "RetryPolicy",
    "Worker",
    "adopt",
    "async_wait_for",
    "consumers_on",
    "drop_stream",
    "oldest_transaction",
    "parked_streams",
    "problems",
    "resume",
    "retry_stream",
    "subscribe",
    "wait_for",
    "waiting_for",
]
