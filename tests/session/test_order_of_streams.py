"""A flush writes its streams in one order, so that writers of the same streams wait for each other and do not deadlock."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from sa_eventsource import EventRecord
from tests.orders import Account, Order

SORTED = [("Account", str(UUID(int=1))), ("Account", str(UUID(int=2))), ("Order", "a"), ("Order", "b"), ("Order", "c")]


def streams_by_position(engine: Engine, after: int = 0) -> list[tuple[str, str]]:
    columns = (EventRecord.aggregate_type, EventRecord.aggregate_id)
    with Session(engine) as session:
        found = session.execute(select(*columns).where(EventRecord.position > after).order_by(EventRecord.position))
        return list(dict.fromkeys((row[0], str(row[1])) for row in found))


def test_new_streams_take_positions_by_type_and_id_however_they_were_added(database: Engine) -> None:
    with Session(database) as session:
        session.add_all([Order.place(order_id="c"), Account.open(account_id=UUID(int=2)), Order.place(order_id="a")])
        session.add_all([Account.open(account_id=UUID(int=1)), Order.place(order_id="b")])
        session.commit()
    assert streams_by_position(database) == SORTED


def test_changed_streams_do_so_however_they_were_loaded(database: Engine) -> None:
    with Session(database) as session:
        session.add_all([Order.place(order_id=each) for each in "abc"])
        session.commit()
    with Session(database) as session:
        orders = [session.get_one(Order, each) for each in ("b", "c", "a")]
        for order in orders:
            order.note("changed")
        session.commit()
    assert streams_by_position(database, after=3) == SORTED[2:]
