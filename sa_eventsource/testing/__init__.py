"""What tests of an application are written with."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from sa_eventsource.testing.examples import example
from sa_eventsource.testing.expectations import like
from sa_eventsource.testing.freezing import frozen
from sa_eventsource.testing.projecting import projected
from sa_eventsource.testing.recording import recorded
from sa_eventsource.testing.scenarios import Outcome, Scenario, scenario

if TYPE_CHECKING:
    from sa_eventsource.testing.property_tests import Called, aggregate_laws, called, events_of, histories_of, read_model_laws

__all__ = [
    "Called",
    "Outcome",
    "Scenario",
    "aggregate_laws",
    "called",
    "events_of",
    "example",
    "frozen",
    "histories_of",
    "like",
    "projected",
    "read_model_laws",
    "recorded",
    "scenario",
]

_WITH_HYPOTHESIS = frozenset({"Called", "aggregate_laws", "called", "events_of", "histories_of", "read_model_laws"})
"""Imported when they are asked for: Hypothesis is an extra, and takes its time."""


def __getattr__(name: str) -> Any:
    """Import what needs Hypothesis.

    Raises:
        MissingExtraError: It is not installed.
    """
    if name in _WITH_HYPOTHESIS:
        return getattr(_import_module("sa_eventsource.testing.property_tests"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
