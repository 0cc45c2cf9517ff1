"""All that is declared on the base. Worker, migrations and tests import it from here."""

from project_name.base import Base
from project_name.order_list import OrderList
from project_name.orders import Order

__all__ = ["Base", "Order", "OrderList"]
