"""``adopt`` where the log is of this cluster already, in part or as a whole: no follower loses what it has yet to take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import ReadModel, ReadModelManager, Worker, map_from_event, verify
from sa_eventsource.checkpoints import adopt
from sa_eventsource.read_models import count
from tests.bank import AnyAccount, Deposited
from tests.cli.commands import call as run_command
from tests.committing import commit_events
from tests.parameters import slow_after


class Base(DeclarativeBase):
    """Base of what is adopted."""


class Account(AnyAccount, Base):
    """What is counted."""

    __aggregate_type__ = "adopting.Account"


class Deposits(ReadModel, Base):
    """Counts all events in one row."""

    __projection_name__ = "adopting_deposits"
    kind: Mapped[str] = map_from_event(Deposited, key=True, source="aggregate_id")
    number: Mapped[int] = map_from_event(Deposited, reduce=count())


class Entries(ReadModel, Base):
    """Counts them too, and comes differently far."""

    __projection_name__ = "adopting_entries"
    kind: Mapped[str] = map_from_event(Deposited, key=True, source="aggregate_id")
    number: Mapped[int] = map_from_event(Deposited, reduce=count())


MODELS: tuple[Any, ...] = (Deposits, Entries)


def deposit(engine: Engine, times: int) -> None:
    commit_events(engine, Account, "p", *[Deposited(amount=1)] * times)


def follow(engine: Engine) -> int:
    Worker(engine, Base).run_once()
    with Session(engine) as session:
        numbers: set[int] = {session.get_one(model, "p").number for model in MODELS}
    assert len(numbers) == 1
    return numbers.pop()


@pytest.fixture
def tables() -> MetaData:
    return Base.metadata


@pytest.fixture
def log(postgres_engine: Engine) -> Iterator[Engine]:
    deposit(postgres_engine, 5)
    assert follow(postgres_engine) == 5
    deposit(postgres_engine, 2)  # are yet to be taken
    yield postgres_engine
    assert verify(postgres_engine, Base).is_sound
    assert ReadModelManager(postgres_engine, Base).problems() == []


def call(engine: Engine, last_position: int | None = None) -> None:
    with Session(engine) as session:
        adopt(session, Base, last_position=last_position)


@pytest.mark.parametrize("last_position", slow_after(2, [None, 6, 7, 5, 0]))
def test_a_log_of_this_cluster_keeps_what_is_to_be_taken(log: Engine, last_position: int | None) -> None:
    call(log, last_position)
    assert follow(log) == 7


@pytest.mark.parametrize("last_position", slow_after(2, [None, 6, 7, 0]))
def test_followers_that_have_come_differently_far_take_nothing_twice(log: Engine, last_position: int | None) -> None:
    assert Worker(log, Base, only=["adopting_entries"]).run_once() == 2
    with Session(log) as late:
        late.add(account := Account(id="late"))
        account.apply_event(Deposited(amount=1))
        late.flush()
        deposit(log, 1)
        assert Worker(log, Base, only=["adopting_entries"]).run_once() == 1
        late.commit()
    call(log, last_position)
    deposit(log, 1)
    assert follow(log) == 9
    with Session(log) as session:
        assert [session.get_one(model, "late").number for model in MODELS] == [1, 1]


@pytest.mark.parametrize("last_position", slow_after(1, [None, 5]))
def test_it_may_be_called_twice(log: Engine, last_position: int | None) -> None:
    with log.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET cluster = '1'"))
    call(log, last_position)
    call(log)
    deposit(log, 1)
    call(log)
    assert follow(log) == 8
    call(log)
    assert follow(log) == 8


def test_no_id_is_given_that_would_be_wrong_for_a_follower(log: Engine) -> None:
    with log.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO projection_positions (projection_name, last_processed_position, snapshot_cursor, cluster) "
                "SELECT 'elsewhere', 7, pg_current_snapshot()::text, '1'"
            )
        )
    with pytest.raises(ValueError, match="let them catch up first"):
        call(log)
    assert follow(log) == 7
    call(log)
    with log.begin() as connection:
        connection.execute(text("DELETE FROM projection_positions WHERE projection_name = 'elsewhere'"))


def test_the_command_says_what_is_known_and_which_choice_is_right_when(log: Engine) -> None:
    with log.begin() as connection:
        connection.execute(text("UPDATE projection_positions SET cluster = '4711'"))
    result = run_command("adopt", "tests.checkpoints.test_adopting:Base", engine=log, stdin="n\n")
    assert result.exit_code == 1
    assert "The log has 7 events, the last at position 7, recorded 20" in result.stderr
    assert "Checkpoints of cluster 4711: adopting_deposits (position 5), adopting_entries (position 5)." in result.stderr
    for choice in ("without options", "--last-position N", "--keep"):
        assert choice in result.stderr
    assert "This will give the whole log transaction ids that hold here" in result.stderr
    with log.connect() as connection:
        assert connection.scalar(text("SELECT min(cluster) FROM projection_positions")) == "4711"
    call(log)
    assert follow(log) == 7


@pytest.mark.parametrize("last_position", slow_after(1, [8, -1, 9999]))
def test_a_position_that_the_log_does_not_have_is_refused(log: Engine, last_position: int) -> None:
    with pytest.raises(ValueError, match=f"last_position is {last_position}, and the log's last position is 7"):
        call(log, last_position)
    assert follow(log) == 7
