"""What follows from one order, by causation ids: from the order to two accounts, other orders, and a note with a hostile text."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sa_eventsource import event_context
from tests.bank import Deposited, Opened
from tests.browser.shop import START
from tests.orders import Account, Order
from tests.shop import LINES, NoteAdded, OrderPaid, OrderPlaced, OrderShipped

STRANGE = '</text></svg><script>alert(1)</script>"\u202egpj'
"""The id of an order."""


def event_id(number: int) -> UUID:
    """Give the id of an event of the story."""
    return UUID(f"01981f3e-0000-7000-8000-{number:012}")


def tell(engine: Engine) -> None:
    """Write the story: 1 is the first event, without a correlation id; its id is the correlation id of the others."""
    with Session(engine) as session:
        order = Order(id="story-1")
        seller = Account(id=UUID("01981f3e-5a3c-7cc1-9d0e-6a4b1f0c2d21"))
        carrier = Account(id=UUID("01981f3e-5a3c-7cc1-9d0e-6a4b1f0c2d22"))
        wrapping, strange = Order(id="story-wrapping"), Order(id=STRANGE)
        placed = OrderPlaced(customer_id="c-1", lines=LINES, total=sum((each.price * each.quantity for each in LINES), Decimal()))
        events: list[tuple[int | None, Any, Any, timedelta]] = [
            (None, order, placed, timedelta()),
            (1, order, OrderPaid(payment_id="p-1"), timedelta(seconds=4)),
            (2, seller, Opened(owner="seller"), timedelta(seconds=4.02)),
            (2, wrapping, placed, timedelta(seconds=4.05)),
            (3, seller, Deposited(amount=1990), timedelta(seconds=5)),
            (4, wrapping, OrderPaid(payment_id="p-2"), timedelta(minutes=9)),
            (6, order, OrderShipped(carrier="DHL", tracking_number="t-1"), timedelta(hours=26)),
            (7, carrier, Opened(owner="carrier"), timedelta(hours=26, seconds=1)),
            (8, carrier, Deposited(amount=490), timedelta(hours=26, seconds=1.5)),
            (1, strange, placed, timedelta(days=3)),
            (10, strange, NoteAdded(text=STRANGE), timedelta(days=3, milliseconds=7)),
        ]
        for number, (cause, aggregate, event, later) in enumerate(events, 1):
            family = None if cause is None else event_id(1)
            with event_context(correlation_id=family, causation_id=None if cause is None else event_id(cause)):
                aggregate.apply_event(event, event_id=event_id(number), occurred_at=START + later)
                session.add(aggregate)
                session.flush()
        session.commit()
