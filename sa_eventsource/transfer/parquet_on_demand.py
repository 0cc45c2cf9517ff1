"""Loading what reads and writes Parquet only where it is wanted."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load_parquet() -> Any:
    """Load ``sa_eventsource.transfer.parquet``, which needs an extra, and takes a while.

    Raises:
        MissingExtraError: PyArrow is not installed.
    """
    return import_module("sa_eventsource.transfer.parquet")
