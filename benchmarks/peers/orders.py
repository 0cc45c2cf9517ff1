"""The orders that all contenders write, and the read model that they keep."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

PRICE = Decimal("12.50")

VIEW = """
CREATE TABLE IF NOT EXISTS {name} (id varchar(255) PRIMARY KEY, lines integer NOT NULL, total numeric NOT NULL)
"""
"""The read model's table, for libraries that leave it to the application."""

ADD = """
INSERT INTO {name} AS present (id, lines, total) VALUES (%(id)s, %(lines)s, %(total)s)
ON CONFLICT (id) DO UPDATE SET lines = present.lines + excluded.lines, total = present.total + excluded.total
"""
"""What an event, or a batch of them, does to an order's row there."""


def line(number: int) -> dict[str, Any]:
    """Describe a line of an order: the payload of every event."""
    return {"customer_id": "c-1", "sku": f"sku-{number}", "quantity": 1, "price": PRICE}
