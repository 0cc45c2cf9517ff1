"""Places an order and pays it; then shows the list of orders: ``python -m project_name``."""

from decimal import Decimal

from sa_eventsource import event_context
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from project_name.models import Order, OrderList
from project_name.settings import database_url


def main() -> None:
    """Run the example."""
    engine = create_engine(database_url())
    with Session(engine) as session, event_context(user="web"):
        order = Order.place("Ann", Decimal("56.90"))
        session.add(order)
        session.commit()
        order_id = order.id
    with Session(engine) as session, event_context(user="payments"):
        session.get_one(Order, order_id).pay("PAY-7781")
        session.commit()
    print(f"order {order_id} is placed and paid")
    with Session(engine) as session:
        rows = session.scalars(select(OrderList).order_by(OrderList.id)).all()
        print(f"orders in the list, as far as the worker has come: {len(rows)}")
        for row in rows:
            print(f"{row.id}  {row.status}  {row.total:>8}  {row.customer}")
    engine.dispose()


if __name__ == "__main__":
    main()
