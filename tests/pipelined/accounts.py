"""The application of this folder's tests: accounts with strong models of each kind, beside ordinary rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import EventRecord, ReadModel, RecordedEvent, handles, map_from_event
from sa_eventsource.read_models import sum_
from tests.bank import AnyAccount, Deposited, Opened


class Base(DeclarativeBase):
    """The declarative base."""


class _Money(AnyAccount, Base):
    __abstract__ = True

    @classmethod
    def open(cls, key: Any, owner: str = "ann") -> Any:
        """Open an account."""
        account = cls(id=key)
        account.apply_event(Opened(owner=owner))
        return account


class Account(_Money):
    """An account that has rows in two strong models."""

    __aggregate_type__ = "pipelined.Account"


class Wallet(_Money):
    """An account without strong models."""

    __aggregate_type__ = "pipelined.Wallet"


class Vault(_Money):
    """An account with snapshots, without strong models."""

    __aggregate_type__ = "pipelined.Vault"
    __snapshot_frequency__ = 3


class Audited(_Money):
    """An account whose strong model is written by a handler."""

    __aggregate_type__ = "pipelined.Audited"


class Balance(ReadModel, Base):
    """What accounts hold: in a table of its own, which refuses too much."""

    __consistency__ = "strong"
    __tablename__ = "pipelined_balances"
    __table_args__ = (CheckConstraint("total < 1000", name="not_too_much"),)
    __aggregates__ = (Account,)

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    total: Mapped[int] = map_from_event(Deposited, reduce=sum_("amount"))


class Owner(ReadModel, Base):
    """Who owns accounts: among the shared projections."""

    __consistency__ = "strong"
    __projection_name__ = "pipelined_owners"
    __aggregates__ = (Account,)

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    owner: Mapped[str] = map_from_event(Opened)


class Note(Base):
    """An ordinary row."""

    __tablename__ = "pipelined_notes"

    id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]


class Remark(Base):
    """An ordinary row that the database numbers."""

    __tablename__ = "pipelined_remarks"

    id: Mapped[int] = mapped_column(primary_key=True)
    note_id: Mapped[str | None] = mapped_column(ForeignKey("pipelined_notes.id", deferrable=True, initially="DEFERRED"))


class Audit(ReadModel, Base):
    """Written by hand."""

    __consistency__ = "strong"
    __tablename__ = "pipelined_audits"
    __aggregates__ = (Audited,)

    id: Mapped[str] = mapped_column(primary_key=True)

    @classmethod
    @handles(Opened)
    def _opened(cls, recorded: RecordedEvent[Opened], session: Session) -> None:
        if recorded.event.owner == "nobody":
            raise ValueError("nobody owns nothing")
        stored = session.scalar(
            select(func.count()).select_from(EventRecord).where(EventRecord.aggregate_id == recorded.aggregate_id)
        )
        session.add(cls(id=f"{recorded.aggregate_id} with {stored}"))
