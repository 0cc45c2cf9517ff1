"""Rows of read models are written by events and handlers, not by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.consumers import is_any_handling, is_handling
from sa_eventsource.exceptions import ReadModelWriteError
from sa_eventsource.mapping import find_tables
from sa_eventsource.read_models.read_model import ReadModel

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.orm import Session


def refuse(session: Session, subject: Any, deed: str) -> None:
    """Refuse what a session would write to rows of a read model, unless a handler is at work in it."""
    if not is_handling(session):
        name = subject.__name__ if isinstance(subject, type) else repr(subject)
        raise ReadModelWriteError(f"{deed} {name}")


def refuse_bulk(model: type[Any]) -> None:
    """Refuse a bulk operation on rows of a read model, unless a handler is at work."""
    if not is_any_handling():
        raise ReadModelWriteError(f"a bulk write of {model.__name__}")


def model_of(table: Table) -> type[Any] | None:
    """Get the read model whose rows are in a table, or the base class for the shared table; None for any other table."""
    tables = find_tables(table.metadata)
    if tables is None:
        return None
    if table is tables.projections:
        return ReadModel
    return next((each.model for each in list(tables.read_models.values()) if each.table is table), None)
