"""Read models: declared fields, what they mean as a fold in Python, and the same as SQL."""

from sa_eventsource.read_models import guards
from sa_eventsource.read_models.consumer import Consumer, OnError, check_following, reason_of
from sa_eventsource.read_models.definition import Consistency, ReadModelDefinition, definition_of, versioned_name
from sa_eventsource.read_models.expressions import day, month, week, year
from sa_eventsource.read_models.fields import map_from_event
from sa_eventsource.read_models.fold import fold
from sa_eventsource.read_models.handlers import HandlerMethod, by_stored_name, handles, handling, load_for_update
from sa_eventsource.read_models.read_model import ReadModel
from sa_eventsource.read_models.reducers import append, count, decrement, first, increment, last, max_, min_, remove, sum_
from sa_eventsource.read_models.row_store import apply_events, is_row
from sa_eventsource.read_models.strong import write_strong_models

guards.guard()

__all__ = [
    "Consistency",
    "Consumer",
    "HandlerMethod",
    "OnError",
    "ReadModel",
    "ReadModelDefinition",
    "append",
    "apply_events",
    "by_stored_name",
    "check_following",
    "count",
    "day",
    "decrement",
    "definition_of",
    "first",
    "fold",
    "handles",
    "handling",
    "increment",
    "is_row",
    "last",
    "load_for_update",
    "map_from_event",
    "max_",
    "min_",
    "month",
    "reason_of",
    "remove",
    "sum_",
    "versioned_name",
    "week",
    "write_strong_models",
    "year",
]
