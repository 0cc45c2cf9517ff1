"""The laws of an aggregate whose commands go to their declared handlers: each is called, and finds the mistake that was planted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import Command, EventSourceOptions, command_handler
from sa_eventsource.testing import aggregate_laws, called, histories_of
from tests.bank import AnyAccount
from tests.testing.test_laws_of_aggregates import broken, check


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class Account(AnyAccount, Base):
    __aggregate_type__ = "laws_of_commands.Account"


class Open(Command[str]):
    __command_type__ = "laws_of_commands.Open"
    amount: int


class Withdraw(Command[None]):
    __command_type__ = "laws_of_commands.Withdraw"
    account_id: str
    amount: int


class WithdrawOutOfSight(Withdraw):
    __command_type__ = "laws_of_commands.WithdrawOutOfSight"


class Lose(Command[None]):
    __command_type__ = "laws_of_commands.Lose"


handled: list[Any] = []


@command_handler(Open)
def open_account(command: Open, session: Session) -> str:
    account = Account()
    account.deposit(command.amount)
    session.add(account)
    handled.append(command)
    return account.id


@command_handler(Withdraw)
def withdraw(command: Withdraw, session: Session) -> None:
    handled.append(command)
    session.get_one(Account, command.account_id).withdraw(command.amount)


@command_handler(WithdrawOutOfSight)
def withdraw_out_of_sight(command: WithdrawOutOfSight, session: Session) -> None:
    account = session.get_one(Account, command.account_id)
    account.withdraw(command.amount)
    vars(account)["balance"] -= 1


@command_handler(Lose)
def lose(command: Lose, session: Session) -> None:
    raise KeyError("lost")


AMOUNTS = st.integers(1, 60)
OPEN = called(Open, amount=AMOUNTS)


def _of_account(command: type[Any]) -> Any:
    return called(command, account_id=lambda account: account.id, amount=AMOUNTS)


def test_handlers_are_called_with_the_aggregate_that_one_of_them_made() -> None:
    handled.clear()
    check(aggregate_laws(Account, commands=[OPEN, _of_account(Withdraw)]))
    assert {type(each) for each in handled} == {Open, Withdraw}
    drawn = [each for each in handled if type(each) is Withdraw]
    assert all(1 <= each.amount <= 60 for each in drawn)


def test_fields_are_drawn_by_their_annotations() -> None:
    handled.clear()
    check(aggregate_laws(Account, commands=[Open]))
    assert len({each.amount for each in handled}) > 3


def test_a_handler_that_changes_state_without_an_event() -> None:
    message = broken(aggregate_laws(Account, commands=[OPEN, _of_account(WithdrawOutOfSight)]))
    assert "Account.balance" in message
    assert "replaying the events gives another state than applying them has left" in message


def test_a_handler_that_raises_what_is_no_rule_is_told_how_to_allow_it() -> None:
    assert "Lose raised KeyError('lost'). If a rule refuses the command so, write refusals=(KeyError, ...)" in broken(
        aggregate_laws(Account, commands=[Lose])
    )
    check(aggregate_laws(Account, commands=[Lose], refusals=KeyError))


def test_an_id_that_is_drawn_at_random_is_told_how_to_be_named() -> None:
    message = broken(aggregate_laws(Account, commands=[Withdraw]))
    assert "If account_id names the aggregate, write called(Withdraw, account_id=lambda account: account.id)." in message


def test_settings_of_a_test_bring_no_deadline_with_them() -> None:
    laws: Any = aggregate_laws(Account, commands=[OPEN, _of_account(Withdraw)])
    laws.settings = settings(max_examples=5, deadline=0.01, database=None)  # milliseconds; by default it is 200
    laws("runTest").debug()


def test_what_a_command_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="Withdraw has no field 'euros'; it has: account_id, amount"):
        called(Withdraw, euros=AMOUNTS)
    with pytest.raises(TypeError, match=r"Withdraw: amount is drawn by a strategy of Hypothesis, such as st.integers\(\), not 3"):
        called(Withdraw, amount=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="histories are made by methods of Account; Withdraw is a command with a handler"):
        histories_of(Account, commands=[Withdraw])
