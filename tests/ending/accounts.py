"""Accounts that are compacted, with snapshots and without."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import EventSourceOptions, StreamClosed, applies, compact, verify
from tests.bank import AnyAccount


class Base(DeclarativeBase):
    """With archives, and no proofs."""

    __eventsource__ = EventSourceOptions(archives="archives")


class Account(AnyAccount, Base):
    """Changes at its end, too."""

    __aggregate_type__ = "compacting.Account"
    __snapshot_frequency__ = 1

    ended_with: int | None = None

    @applies(StreamClosed)
    def _ended(self, event: StreamClosed) -> None:
        self.ended_with = self.balance


class PlainAccount(AnyAccount, Base):
    """Takes no snapshots."""

    __aggregate_type__ = "compacting.PlainAccount"


BASE = "tests.ending.accounts:Base"
SNAPSHOTS = Base.metadata.tables["snapshots"]


def pay_in(engine: Engine, kind: type[AnyAccount], account_id: str, *amounts: int, close: bool = True) -> None:
    """Commit an account with deposits, an event each, and its end."""
    with Session(engine) as session:
        account = kind(id=account_id)
        for each in amounts:
            account.deposit(each)
        if close:
            account.close_stream("moved away")
        session.add(account)
        session.commit()


def compacted(engine: Engine, kind: type[Any], aggregate_id: str, **options: Any) -> Any:
    """Compact a stream, and commit."""
    with Session(engine) as session:
        done = compact(session, kind, aggregate_id, reason="r", **options)
        session.commit()
        return done


def wrong(engine: Engine) -> list[str]:
    """List what is wrong with the log and its followers."""
    return [str(each) for each in verify(engine, Base).findings]
