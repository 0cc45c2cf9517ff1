"""Who lets the followers follow by themselves: the worker, the announcements that wake it, its pace."""

from sa_eventsource.workers.announcements import Announcer, announce_commit
from sa_eventsource.workers.async_worker import AsyncWorker
from sa_eventsource.workers.companions import AsyncCompanion, Companion, Companionship, on_working
from sa_eventsource.workers.pace import Pace
from sa_eventsource.workers.pruning import delete_some, is_old
from sa_eventsource.workers.tenant_polling import sessions_for, tenants_of_log
from sa_eventsource.workers.uncut import uncut
from sa_eventsource.workers.worker import Worker

__all__ = [
    "Announcer",
    "AsyncCompanion",
    "AsyncWorker",
    "Companion",
    "Companionship",
    "Pace",
    "Worker",
    "announce_commit",
    "delete_some",
    "is_old",
    "on_working",
    "sessions_for",
    "tenants_of_log",
    "uncut",
]
