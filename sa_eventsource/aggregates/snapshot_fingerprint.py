"""What a snapshot's state rests on, as one digest: a snapshot of another digest is not read.

It covers the shape of the state (its types, their validators, defaults by value, default factories) and all that makes it: the
``@applies`` methods, what they call and name, what Python calls by itself, the events they take, those that inherit from these, and
how older versions are read.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from sa_eventsource.aggregates.digest import digest
from sa_eventsource.events import members, place, reading_steps
from sa_eventsource.exceptions import SnapshotWarning

if TYPE_CHECKING:
    from sa_eventsource.aggregates.handlers import Handlers
    from sa_eventsource.aggregates.state import StateFields


def fingerprint(aggregate_class: type[Any], state: StateFields, handlers: Handlers) -> str | None:
    """Digest what the state of a class follows from.

    Returns:
        The digest, the same in every process that runs the same code on the same version of Python; None, with a warning, where
        there is something in it that has no value outside of its process. No snapshots are used then.
    """
    declared = handlers.functions()
    # Those that inherit from an event have methods, defaults and older versions of their own.
    functions = declared | {member: declared[nearest] for member, nearest in members(declared).items()}
    classes = [*aggregate_class.__mro__, *functions]
    packages = {each.__module__.partition(".")[0] for each in classes} - sys.stdlib_module_names | {"__main__"}
    try:
        rests_on = {
            "version": getattr(aggregate_class, "__snapshot_version__", 1),
            "state": state.rests_on(),
            "handlers": [(event, functions[event], reading_steps(event)) for event in sorted(functions, key=place)],
        }
        return digest(rests_on, owner=aggregate_class, packages=packages)
    except Exception as error:  # noqa: BLE001 - such as those of the application's own __reduce__: the events are there
        warnings.warn(SnapshotWarning(aggregate_class.__name__, f"its events are read instead: {error}"), stacklevel=2)
        return None
