"""Streams replayed event by event: by the code of this process, and by other code, in a process of its own, to be compared."""

from sa_eventsource.replays.applied_code import Applied, applied_by, check_link_form, code_of, method_applying
from sa_eventsource.replays.divergence import Difference, Divergence
from sa_eventsource.replays.other_code import OtherCode
from sa_eventsource.replays.replayed_steps import Replay, ReplayedStep, replay_here, said_of

__all__ = [
    "Applied",
    "Difference",
    "Divergence",
    "OtherCode",
    "Replay",
    "ReplayedStep",
    "applied_by",
    "check_link_form",
    "code_of",
    "method_applying",
    "replay_here",
    "said_of",
]
