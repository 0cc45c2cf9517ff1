"""Following the log: step by step, after failures, once more from its beginning; and the status of those who do."""

from sa_eventsource.projections.command_backlog import CommandBacklog, HeldTimeOuts, command_backlog
from sa_eventsource.projections.failures import RetryPolicy, culprit, error_text, record_failure, record_wait
from sa_eventsource.projections.manager import ReadModelManager
from sa_eventsource.projections.parked_streams import ParkedStream, drop_stream, parked_streams, resume, retry_stream
from sa_eventsource.projections.parking import has_parked, park_behind
from sa_eventsource.projections.plans import Step
from sa_eventsource.projections.readers import next_events
from sa_eventsource.projections.rebuild_rows import keys_of_events, locked_followers, rebuild_rows_of, rebuild_rows_with
from sa_eventsource.projections.replayer import EventReplayer
from sa_eventsource.projections.rewind import Rewound, follower_to_rewind, rewind
from sa_eventsource.projections.status import (
    WELL,
    ConsumerStatus,
    OldestTransaction,
    in_short,
    oldest_transaction,
    problems,
    status_of,
)
from sa_eventsource.projections.steps import attempt_step, ends_all, take_step
from sa_eventsource.projections.stretches import keys_of_rows
from sa_eventsource.projections.time_outs import Clearance, Clearances, kinds_that_may_run, waits_for_parked
from sa_eventsource.projections.undeclared import UndeclaredCheckpoint
from sa_eventsource.projections.waiting import async_wait_for, wait_for, waiting_for

__all__ = [
    "WELL",
    "Clearance",
    "Clearances",
    "CommandBacklog",
    "ConsumerStatus",
    "EventReplayer",
    "HeldTimeOuts",
    "OldestTransaction",
    "ParkedStream",
    "ReadModelManager",
    "RetryPolicy",
    "Rewound",
    "Step",
    "UndeclaredCheckpoint",
    "async_wait_for",
    "attempt_step",
    "command_backlog",
    "culprit",
    "drop_stream",
    "ends_all",
    "error_text",
    "follower_to_rewind",
    "has_parked",
    "in_short",
    "keys_of_events",
    "keys_of_rows",
    "kinds_that_may_run",
    "locked_followers",
    "next_events",
    "oldest_transaction",
    "park_behind",
    "parked_streams",
    "problems",
    "rebuild_rows_of",
    "rebuild_rows_with",
    "record_failure",
    "record_wait",
    "resume",
    "retry_stream",
    "rewind",
    "status_of",
    "take_step",
    "wait_for",
    "waiting_for",
    "waits_for_parked",
]
