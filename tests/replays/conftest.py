"""Other code, to be replayed by."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replays.other_parcels import make_repository


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with other code for parcels."""
    return make_repository(tmp_path_factory.mktemp("repository"))
