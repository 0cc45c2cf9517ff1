"""Read models: declared fields, what they mean as a fold in Python, and the same as SQL."""

from sa_eventsource.read_models.evolve_methods import REMOVED, Evolved, evolves
from sa_eventsource.read_models.expressions import day, month, week, year
from sa_eventsource.read_models.fields import KEPT, map_from_event
from sa_eventsource.read_models.fold import Row, fold, step
from sa_eventsource.read_models.handler_methods import handles
from sa_eventsource.read_models.in_order import apply_in_order
from sa_eventsource.read_models.locked_rows import forget_rows, load_for_update
from sa_eventsource.read_models.mapped_rows import is_row, unique_indexes
from sa_eventsource.read_models.model_versions import versioned_name
from sa_eventsource.read_models.read_model import ReadModel
from sa_eventsource.read_models.read_model_definition import Consistency, ReadModelDefinition, definition_of
from sa_eventsource.read_models.reducers import append, count, decrement, first, increment, last, max_, min_, remove, sum_
from sa_eventsource.read_models.row_store import apply_events
from sa_eventsource.read_models.row_types import StoredList, StoredNumber
from sa_eventsource.read_models.rows_in_memory import RowsInMemory
from sa_eventsource.read_models.sources import Calculation, Constant, EnvelopeField, MetadataValue, TimePart
from sa_eventsource.read_models.strong import write_strong_models

__all__ = [
    "KEPT",
    "REMOVED",
    "Calculation",
    "Consistency",
    "Constant",
    "EnvelopeField",
    "Evolved",
    "MetadataValue",
    "ReadModel",
    "ReadModelDefinition",
    "Row",
    "RowsInMemory",
    "StoredList",
    "StoredNumber",
    "TimePart",
    "append",
    "apply_events",
    "apply_in_order",
    "count",
    "day",
    "decrement",
    "definition_of",
    "evolves",
    "first",
    "fold",
    "forget_rows",
    "handles",
    "increment",
    "is_row",
    "last",
    "load_for_update",
    "map_from_event",
    "max_",
    "min_",
    "month",
    "remove",
    "step",
    "sum_",
    "unique_indexes",
    "versioned_name",
    "week",
    "write_strong_models",
    "year",
]
