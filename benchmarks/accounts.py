"""Accounts for ``benchmarks.sizes`` and ``benchmarks.storage``, and a log of any size that is written by the database itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, applies, map_from_event
from sa_eventsource.read_models import count, sum_

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

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


_APPEND = """
DO $$
DECLARE
    moment timestamptz := timestamptz '2026-01-01' + {first} * interval '1 second';
    digest text;
BEGIN
    FOR number IN {first}..{last} LOOP
        moment := moment + interval '1 second';
        digest := md5(number::text);
        INSERT INTO {table} (
            event_id, aggregate_type, aggregate_id, version, event_type, event_version, event_data, occurred_at, recorded_at
        )
        VALUES (
            (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || '7' || substr(digest, 1, 3)
                || '8' || substr(digest, 4, 15))::uuid,
            'accounts.Account', 'account-' || lpad((number % {accounts})::text, 8, '0'), number / {accounts} + 1,
            'accounts.Posted', 1,
            jsonb_build_object('amount', number % 100, 'purpose', 'groceries', 'reference', {reference}), moment, moment
        );
        COMMIT;
    END LOOP;
END $$
"""
_REFERENCE = "'RF18 5390 0754 7034'"
_PADDED = f"""{_REFERENCE} || (
    SELECT left(string_agg(md5(digest || part), ''), {{padding}}) FROM generate_series(0, {{padding}} / 32) AS part
)"""


def autocommitting(engine: Engine) -> Connection:
    """Connect for statements that are not to be in a transaction, or have transactions of their own."""
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def append_by_server(connection: Connection, table: str, numbers: range, *, accounts: int, padding: int = 0) -> None:
    """Let the server append events as an application does over the years: a transaction an event, with ids that grow with time.

    Args:
        connection: In no transaction.
        table: The log, or a table of the same columns.
        numbers: Which events to append, counting from the beginning of the log.
        accounts: How many accounts there are; the events are dealt out among them in turn.
        padding: By how many characters, which hardly compress, to lengthen each payload.
    """
    reference = _PADDED.format(padding=padding) if padding else _REFERENCE
    statement = _APPEND.format(table=table, first=numbers.start, last=numbers.stop - 1, accounts=accounts, reference=reference)
    connection.execute(text(statement))


def fill(engine: Engine, events: int, *, padding: int = 0) -> None:
    """Write the log: :data:`LINES` events an account, the first ones of all accounts before the second ones."""
    with autocommitting(engine) as connection:
        append_by_server(connection, "events", range(events), accounts=events // LINES, padding=padding)
        connection.execute(text("VACUUM ANALYZE events"))
