"""Many at a time, and through a pooler."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.orm import Session

from sa_eventsource import ConcurrencyError
from sa_eventsource.session.retry import retry_on_conflict
from tests.pipelined.accounts import Account, Balance
from tests.poolers import pooled, version
from tests.threads import together

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def engine(pipelined: Engine) -> Iterator[Engine]:
    """Engine of the pipelined dialect with a connection for each thread."""
    engine = create_engine(pipelined.url, pool_size=8)
    yield engine
    engine.dispose()


def _deposit_on_one(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Account.open("a-1"))
        session.commit()

    @retry_on_conflict(attempts=200, max_wait=0.05)
    def deposit(key: str) -> None:
        with Session(engine) as session:
            session.get_one(Account, "a-1").deposit()
            session.add(new := Account.open(key))
            new.deposit(2)
            session.commit()

    def work(which: int) -> None:
        for number in range(10):
            deposit(f"a-{which}-{number}")

    together(*(partial(work, which) for which in range(6)))
    with Session(engine) as session:
        assert session.get_one(Account, "a-1").balance == 60
        assert session.scalar(select(Balance.total).where(Balance.id == "a-1")) == 60
        assert session.scalar(select(func.sum(Balance.total))) == 60 + 120
        assert session.scalar(text("SELECT count(*) FROM events")) == 1 + 60 + 120


def test_threads_that_change_one_aggregate_lose_nothing(engine: Engine) -> None:
    _deposit_on_one(engine)


def test_only_one_of_those_that_make_an_aggregate_does(engine: Engine) -> None:
    made: list[int] = []
    told: list[Any] = []

    def work(which: int) -> None:
        for number in range(10):
            with Session(engine) as session:
                session.add(Account.open(f"a-{number}"))
                try:
                    session.commit()
                except ConcurrencyError as error:
                    told.append((error.aggregate_id, error.expected_version, error.actual_version))
                else:
                    made.append(which)

    together(*(partial(work, which) for which in range(4)))
    assert (len(made), len(told)) == (10, 30)
    assert set(told) == {(f"a-{number}", 0, 1) for number in range(10)}


@pytest.mark.parametrize("prepares", [False, True], ids=["no prepared statements", "prepared statements"])
def test_through_a_pooler_in_transaction_mode(pipelined: Engine, prepares: bool) -> None:
    if prepares and version() < (1, 22):
        pytest.skip("PgBouncer keeps track of prepared statements since 1.21, and of psycopg's way to drop them since 1.22")
    with pooled(pipelined.url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False), pool_size=2) as url:
        arguments: dict[str, Any] = {} if prepares else {"connect_args": {"prepare_threshold": None}}
        engine = create_engine(url.set(drivername="postgresql+psycopg_pipelined"), pool_size=8, **arguments)
        _deposit_on_one(engine)
        engine.dispose()
