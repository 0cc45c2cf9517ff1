"""How far each follower has come, which events it has yet to take, and in which cluster both are true."""

from sa_eventsource.checkpoints.batches import (
    Batch,
    next_batch,
    of_batch,
    of_consumer,
    of_follower,
    of_taken,
    origin_of_batch,
    read_batch,
)
from sa_eventsource.checkpoints.checkpoint import (
    RUNNING,
    STATUSES,
    STOPPED,
    WAITING,
    Checkpoint,
    lock_checkpoint,
    lock_if_free,
    read_checkpoint,
    read_checkpoints,
    remove_checkpoints,
    save_checkpoint,
)
from sa_eventsource.checkpoints.clusters import adopt, any_bind, check_cluster, cluster_identifier, is_moved
from sa_eventsource.checkpoints.held import held_by
from sa_eventsource.checkpoints.lag import COUNTED, Lag, lag
from sa_eventsource.checkpoints.new_events import NewEvents
from sa_eventsource.checkpoints.places import at_end, begin, go_back, position_of
from sa_eventsource.checkpoints.replication import is_replicated
from sa_eventsource.checkpoints.snapshot import Snapshot

__all__ = [
    "COUNTED",
    "RUNNING",
    "STATUSES",
    "STOPPED",
    "WAITING",
    "Batch",
    "Checkpoint",
    "Lag",
    "NewEvents",
    "Snapshot",
    "adopt",
    "any_bind",
    "at_end",
    "begin",
    "check_cluster",
    "cluster_identifier",
    "go_back",
    "held_by",
    "is_moved",
    "is_replicated",
    "lag",
    "lock_checkpoint",
    "lock_if_free",
    "next_batch",
    "of_batch",
    "of_consumer",
    "of_follower",
    "of_taken",
    "origin_of_batch",
    "position_of",
    "read_batch",
    "read_checkpoint",
    "read_checkpoints",
    "remove_checkpoints",
    "save_checkpoint",
]
