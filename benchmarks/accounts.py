"""Accounts for ``benchmarks.sizes`` and ``benchmarks.storage``, and a log of any size that is written by the database itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, applies, map_from_event
from sa_eventsource.read_models import count, sum_

if TYPE_CHECKING:
    from sqlalchemy import Engine

LINES = 20
"""Events of an account in the log that :func:`fill` writes."""


class Base(DeclarativeBase):
    """Declarative base of the accounts."""


class Posted(DomainEvent):
    """An amount that was paid in or out."""

    __event_type__ = "accounts.Posted"

    amount: int
    purpose: str
    reference: str


class Account(AggregateRoot[str], Base):
    """An account, with a snapshot every hundred events."""

    __aggregate_type__ = "accounts.Account"
    __snapshot_frequency__ = 100

    balance: int = 0

    def post(self, amount: int) -> None:
        """Pay in or out."""
        self.apply_event(Posted(amount=amount, purpose="groceries", reference="RF18 5390 0754 7034"))

    @applies(Posted)
    def _posted(self, event: Posted) -> None:
        self.balance += event.amount


class Balance(ReadModel, Base):
    """A row an account, eventual."""

    __tablename__ = "accounts_balances"
    __projection_name__ = "accounts_balance"

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    balance: Mapped[int] = map_from_event(Posted, source="amount", reduce=sum_())
    postings: Mapped[int] = map_from_event(Posted, reduce=count())


def account_id(number: int) -> str:
    """Return the id of one of the accounts that :func:`fill` makes, from 0."""
    return f"account-{number:08}"


_FILL = """
DO $$
DECLARE
    moment timestamptz := timestamptz '2026-01-01';
BEGIN
    FOR number IN {first}..{last} LOOP
        moment := moment + interval '1 second';
        INSERT INTO {table} (
            event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, occurred_at, recorded_at
        )
        VALUES (
            (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '7' || substr(md5(number::text), 1, 3)
                || '8' || substr(md5(number::text), 4, 15))::uuid,
            'accounts.Account', 'account-' || lpad((number % {accounts})::text, 8, '0'), number / {accounts} + 1,
            'accounts.Posted', 1,
            jsonb_build_object('amount', number % 100, 'purpose', 'groceries', 'reference', 'RF18 5390 0754 7034'), moment, moment
        );
        COMMIT;
    END LOOP;
END $$
"""


def fill(engine: Engine, events: int, *, table: str = "events", begun: int = 0) -> None:
    """Write a log as an application does over the years: a transaction an event, ids that grow with time, streams side by side.

    Each of its accounts has :data:`LINES` events, the first ones of all accounts lying before the second ones.

    Args:
        engine: Its database has the tables already.
        events: How many in all.
        table: Where to write them.
        begun: How many of them are there.
    """
    statement = _FILL.format(table=table, first=begun, last=events - 1, accounts=events // LINES)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
        connection.execute(text(f"VACUUM ANALYZE {table}"))
