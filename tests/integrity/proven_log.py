"""A log with proofs for tests: accounts, whose heads a key signs."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import Any

from sqlalchemy import Engine, Table, select
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import EventSourceOptions
from sa_eventsource.integrity import EnvironmentSigningKey, grow_tree
from sa_eventsource.mapping import EventSourceTables, find_tables
from tests.bank import AnyAccount, Deposited

VARIABLE = "SA_EVENTSOURCE_TEST_SIGNING_KEY"
BASE = "tests.integrity.proven_log:Base"


def written(name: str, byte: bytes) -> str:
    """Write a signing key as configurations have it."""
    return f"{name}:{b64encode(byte * 32).decode()}"


os.environ.setdefault(VARIABLE, written("first", b"1"))
SIGNING_KEY = EnvironmentSigningKey(VARIABLE)


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(proofs=True, signing_key=SIGNING_KEY)


class ProvenAccount(AnyAccount, Base):
    __aggregate_type__ = "integrity.Account"


def tables_of_log(base: Any = Base) -> EventSourceTables:
    """Get the library's tables."""
    found = find_tables(base.metadata)
    assert found is not None
    return found


def tree_table(base: Any = Base) -> Table:
    """Get the tree's table."""
    found = tables_of_log(base).merkle_tree
    assert found is not None
    return found


def pay_in(session: Session, account_id: str, *amounts: int) -> None:
    """Append events to an account; the caller commits."""
    account = session.get(ProvenAccount, account_id) or ProvenAccount(id=account_id)
    for each in amounts:
        account.apply_event(Deposited(amount=each, note=f"payment of {each} — für {account_id}"))
    session.add(account)


def fill(engine: Engine, events: int, accounts: int = 5) -> None:
    """Append events to some accounts, in a transaction for each account."""
    for number in range(min(accounts, events)):
        with Session(engine) as session:
            pay_in(session, f"account-{number}", *range(1, 1 + len(range(number, events, accounts))))
            session.commit()


def grow(engine: Engine) -> int:
    """Put all events into the tree."""
    with Session(engine) as session:
        return grow_tree(session, base=Base)


def sizes(engine: Engine) -> list[int]:
    """List the sizes of the tree that have a head."""
    with engine.connect() as connection:
        return list(connection.scalars(select(tree_table().c.tree_size).order_by(tree_table().c.tree_size)))
