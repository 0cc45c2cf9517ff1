"""The race finder: actors on real sessions, taken through the orders of their statements and commits.

:func:`races` is where to begin. One run is in ``turn_taking``; which runs there are, in ``exploration`` and ``reordering``.
"""

from sa_eventsource.testing.races.exploration import RaceReport
from sa_eventsource.testing.races.finder import async_races, races
from sa_eventsource.testing.races.race_steps import ActorOutcome, Step, StepKind

__all__ = ["ActorOutcome", "RaceReport", "Step", "StepKind", "async_races", "races"]
