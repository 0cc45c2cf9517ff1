"""Servers that the proofs stop at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.databases import EmbeddedServer, own_server


@pytest.fixture
def durable_server() -> Iterator[EmbeddedServer]:
    """A server of the test's own that waits for the disk."""
    with own_server() as server:
        yield server
