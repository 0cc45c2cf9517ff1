"""The logs of ``benchmarks.sizes`` are of the size they say, and each case does its work on them."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from benchmarks.accounts import LINES, Account, Balance, Base, account_id
from benchmarks.sizes import CASES, Log, measure
from sa_eventsource import ReadModelManager
from sa_eventsource.verification import verify

EVENTS = 400


@pytest.fixture
def log(postgres_engine: Engine) -> Log:
    found = Log(postgres_engine, EVENTS)
    found.prepare()
    return found


@pytest.mark.slow
def test_a_filled_log_is_one_that_the_library_could_have_written(log: Log) -> None:
    with log.engine.connect() as connection:
        transactions = connection.scalar(
            text("SELECT count(DISTINCT transaction_id) FROM events WHERE aggregate_id LIKE 'account-%'")
        )
        ids = connection.scalars(text("SELECT event_id FROM events WHERE aggregate_id LIKE 'account-%' ORDER BY position")).all()
    assert transactions == EVENTS, "a commit an event"
    assert ids == sorted(ids)
    assert {each.version for each in ids} == {7}
    with Session(log.engine) as session:
        account = session.get_one(Account, account_id(EVENTS // LINES - 1))
        assert account.version == LINES
        assert session.get_one(Balance, account.id).balance == account.balance
        assert session.scalar(select(func.count()).select_from(Balance)) == EVENTS // LINES + 5


@pytest.mark.slow
def test_every_case_leaves_a_model_that_fits_its_log(log: Log) -> None:
    results = measure([log, log], rounds=1)
    assert set(results) == set(CASES)
    assert all(figure > 0 for rounds in results.values() for figures in rounds for figure in figures)
    ReadModelManager(log.engine, Base).catch_up()
    assert verify(log.engine, Base).is_sound
