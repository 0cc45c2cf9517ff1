"""Accounts, and commands that move money between them: what the tests of scenarios are about where an order will not do."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    Command,
    DomainRuleError,
    EventSourceOptions,
    async_schedule,
    command_handler,
    schedule,
)
from tests.bank import AnyAccount, Closed, Opened


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class NoOwner(DomainRuleError):
    pass


class Account(AnyAccount[UUID], Base):
    __aggregate_type__ = "testing.Account"

    def open(self, owner: str) -> None:
        self.apply_event(Opened(owner=owner))


class OpenAccount(Command[UUID]):
    __command_type__ = "testing.OpenAccount"
    owner: str


class CloseUnused(Command[None]):
    __command_type__ = "testing.CloseUnused"
    account_id: UUID


class Transfer(Command[int]):
    __command_type__ = "testing.Transfer"
    source: UUID
    target: UUID
    amount: int


class TransferSlowly(Command[None]):
    __command_type__ = "testing.TransferSlowly"
    source: UUID
    target: UUID
    amount: int


class Report(Command[int]):
    __command_type__ = "testing.Report"


class Commit(Command[None]):
    __command_type__ = "testing.Commit"
    account_id: UUID


@command_handler(OpenAccount)
def open_account(command: OpenAccount, session: Session) -> UUID:
    account = Account()
    account.open(command.owner)
    session.add(account)
    schedule(session, CloseUnused(account_id=account.id), after=timedelta(days=30))
    if not command.owner:
        raise NoOwner
    return account.id


@command_handler(CloseUnused)
def close_unused(command: CloseUnused, session: Session) -> None:
    account = session.get_one(Account, command.account_id)
    if account.balance == 0:
        account.apply_event(Closed())


@command_handler(Transfer)
def transfer(command: Transfer, session: Session) -> int:
    source = session.get_one(Account, command.source)
    session.get_one(Account, command.target).deposit(command.amount)
    source.withdraw(command.amount)
    session.flush()
    return session.get_one(Account, command.source).balance


@command_handler(TransferSlowly)
async def transfer_slowly(command: TransferSlowly, session: AsyncSession) -> None:
    await asyncio.sleep(0)
    source = await session.get_one(Account, command.source)
    source.withdraw(command.amount)
    await async_schedule(session, Report())


@command_handler(Report)
def report(command: Report, session: Session) -> int:
    return len(session.scalars(select(Account)).all())


@command_handler(Commit)
def commit(command: Commit, session: Session) -> None:
    session.get_one(Account, command.account_id).deposit(1)
    session.commit()
