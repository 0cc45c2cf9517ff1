"""A rebuild with little memory."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from sa_eventsource.read_models import ReadModelDefinition, rows_in_memory

ROOMS = st.sampled_from([0, 1, 3, rows_in_memory.ROOM])
"""For how many rows there may be room."""


def cramp(monkeypatch: pytest.MonkeyPatch, *, room: int, batch_size: int, written_at_once: int = 2) -> None:
    """Have a rebuild keep few rows, write few at once, and take few events at a time."""
    monkeypatch.setattr(rows_in_memory, "ROOM", room)
    monkeypatch.setattr(rows_in_memory, "WRITTEN_AT_ONCE", written_at_once)
    monkeypatch.setattr(ReadModelDefinition, "batch_size", batch_size)
