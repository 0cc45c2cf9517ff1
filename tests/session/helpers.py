"""What several of the session's tests do alike."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from tests.committing import commit_events
from tests.orders import Order
from tests.shop import NoteAdded
from tests.statement_log import record_statements

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRANSACTION_ENDS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT")


def stored_events(engine: Engine) -> list[tuple[str, str, int, str]]:
    """List aggregate type, id, version and event type of all events that are committed, by position."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT aggregate_type, aggregate_id, version, event_type FROM events ORDER BY position"))
        return [(row[0], row[1], row[2], row[3].removeprefix("shop.")) for row in rows]


def stored_types(engine: Engine) -> list[str]:
    """List the types of all events that are committed, by position."""
    return [event_type for _, _, _, event_type in stored_events(engine)]


def place_order(engine: Engine, order_id: str | None = None, *, notes: int = 0) -> str:
    """Commit a new order with some notes, in a session of its own."""
    with Session(engine) as session:
        order = Order.place(order_id=order_id)
        for number in range(notes):
            order.note(f"note {number}")
        session.add(order)
        session.commit()
        return order.id


def note_elsewhere(engine: Engine, order_id: str, note: str = "from elsewhere") -> None:
    """Commit a further event of an order in a session of its own."""
    commit_events(engine, Order, order_id, NoteAdded(text=note))


@contextmanager
def kinds_of_statements(engine: Engine) -> Iterator[list[str]]:
    """Record the first word of each statement, and the ends of transactions, each once."""
    kinds: list[str] = []
    with record_statements(engine) as log:
        yield kinds
    for entry in log:
        if entry in _TRANSACTION_ENDS:
            if not (entry == "BEGIN" and kinds and kinds[-1] == "BEGIN"):  # SQLite's BEGIN is a statement as well
                kinds.append(entry)
        elif not entry.startswith(_TRANSACTION_ENDS):
            kinds.append("SELECT" if entry.startswith(("SELECT", "(SELECT")) else entry.split()[0])


def selects(kinds: list[str]) -> int:
    """Count the SELECTs."""
    return kinds.count("SELECT")


def state_of(order: Any) -> dict[str, Any]:
    """Give the state fields of an aggregate, loading them where needed."""
    return {name: getattr(order, name) for name in sorted(type(order).__state_fields__.names)}
