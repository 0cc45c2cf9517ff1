"""Connections are cut in whatever state a transaction is."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from sa_eventsource.selftest.cuts import Cuts
from sa_eventsource.selftest.journal import Journal


class _Chosen(Random):
    """Gives what a test has chosen."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self._numbers = iter(numbers)

    def random(self) -> float:
        return next(self._numbers)


def test_a_transaction_that_has_failed_is_cut_as_any_other(postgres_engine: Engine, tmp_path: Path) -> None:
    engine = create_engine(postgres_engine.url)
    with engine.connect() as first:  # in which SQLAlchemy asks the server what it is
        assert first.scalar(text("SELECT 1")) == 1
    spared, cut, by_the_server = 0.99, 0.0, 0.99
    with Journal(tmp_path / "cuts.journal") as journal:
        Cuts(engine, _Chosen(spared, cut, by_the_server), journal)
        with engine.connect() as connection:
            with pytest.raises(DBAPIError, match="division by zero"):
                connection.execute(text("SELECT 1 / 0"))
            with pytest.raises(DBAPIError) as caught:
                connection.execute(text("SELECT 1"))
            assert caught.value.connection_invalidated
    engine.dispose()
