"""Which errors say that another transaction wrote first, so that the same unit of work may succeed when it is run again."""

from __future__ import annotations

from sa_eventsource.exceptions import ConcurrencyError
from sa_eventsource.store import DEADLOCK, SERIALIZATION_FAILURE, code_of


def is_conflict(error: BaseException) -> bool:
    """Check whether a unit of work that failed with *error* may succeed when it is run again.

    That is so for ``ConcurrencyError``, serialization failures (SQLSTATE 40001) and deadlocks (40P01), and for nothing else.
    """
    if isinstance(error, ConcurrencyError):
        return True
    return code_of(error) in (SERIALIZATION_FAILURE, DEADLOCK)
