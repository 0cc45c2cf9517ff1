"""Rows of read models are written by events and handlers, not by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.consumers import is_any_handling, is_handling
from sa_eventsource.exceptions import ReadModelWriteError
from sa_eventsource.mapping import find_tables
from sa_eventsource.read_models.mapped_rows import claim
from sa_eventsource.read_models.read_model import ReadModel
from sa_eventsource.session import on_mapped, protect, protect_from_statements

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.orm import Session


def _refuse(session: Session, subject: Any, deed: str) -> None:
    if not is_handling(session):
        name = subject.__name__ if isinstance(subject, type) else repr(subject)
        raise ReadModelWriteError(f"{deed} {name}")


def _refuse_bulk(model: type[Any]) -> None:
    if not is_any_handling():
        raise ReadModelWriteError(f"a bulk write of {model.__name__}")


def _model_of(table: Table) -> type[Any] | None:
    tables = find_tables(table.metadata)
    if tables is None:
        return None
    if table is tables.projections:
        return ReadModel
    return next((each.model for each in tables.read_models.values() if each.table is table), None)


def guard() -> None:
    """Refuse what a session would write to rows of read models, by flush, statement or in bulk; take in those that are mapped."""
    protect(ReadModel, _refuse)
    protect_from_statements(ReadModel, _refuse, class_of_table=_model_of, refuse_bulk=_refuse_bulk)
    on_mapped(ReadModel, claim)
