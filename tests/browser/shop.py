"""A small shop's events, some of them hostile, for the pages to show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sa_eventsource import event_context
from tests.bank import Deposited, Opened
from tests.orders import Account, Order
from tests.shop import Line

START = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)
ACCOUNT = UUID("01981f3e-5a3c-7cc1-9d0e-6a4b1f0c2d11")
CORRELATION = UUID("11111111-2222-4333-8444-555555555555")
HOSTILE = '</code><script>alert("told")</script><img src=x onerror=alert(1)> {{ 7 * 7 }} \u202egpj.exe \u2066'
CUSTOMERS = ("ann", "bob", "cleo", "dora", "emil")
GOODS = (("lamp", "19.90"), ("bulb", "3.50"), ("desk", "249.00"), ("chair", "129.50"))


def sell(engine: Engine) -> None:
    """Fill the log: forty orders, an account with a snapshot, an order with hostile texts, and one with 5 MB."""
    with Session(engine) as session:
        for number in range(40):
            customer, (sku, price) = CUSTOMERS[number % 5], GOODS[number % 4]
            with event_context(user=customer, reason="web shop"):
                lines = (
                    Line(sku=sku, quantity=number % 3 + 1, price=Decimal(price)),
                    Line(sku="wrapping", quantity=1, price=Decimal("2.00")),
                )
                order = Order.place(f"c-{number % 5}", lines, order_id=f"order-{number + 1:03}")
                if number % 4:
                    order.pay(f"PAY-{7_700 + number}")
                if number % 4 > 1:
                    order.ship("DHL", f"00340434{number:06}")
                session.add(order)
                session.flush()
        with event_context(user="ann", correlation_id=CORRELATION):
            account = Account(id=ACCOUNT)
            session.add(account)
            account.apply_event(Opened(owner="ann"), occurred_at=START)
            for day in (1, 3, 2, 5, 8, 9):  # the third came in late
                account.apply_event(Deposited(amount=day * 10), occurred_at=START + timedelta(days=day))
            session.flush()
        hostile = Order.place(HOSTILE, order_id='<b>"order" / ?&#')
        hostile.note(HOSTILE)
        session.add(hostile)
        large = Order.place("c-9", order_id="order-large")
        large.note("x" * 5_000_000)
        session.add(large)
        session.commit()
