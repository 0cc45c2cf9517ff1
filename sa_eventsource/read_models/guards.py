"""Rows of read models are written by events and handlers, not by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sa_eventsource.exceptions import ReadModelWriteError
from sa_eventsource.read_models.handlers import is_handling
from sa_eventsource.read_models.mapped_rows import claim
from sa_eventsource.read_models.read_model import ReadModel
from sa_eventsource.session import on_mapped, protect, protect_from_statements

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def _refuse(session: Session, subject: Any, deed: str) -> None:
    if not is_handling(session):
        name = subject.__name__ if isinstance(subject, type) else repr(subject)
        raise ReadModelWriteError(f"{deed} {name}")


def guard() -> None:
    """Refuse flushes and statements of a session that would write rows of read models; take in those that are mapped."""
    protect(ReadModel, _refuse)
    protect_from_statements(ReadModel, _refuse)
    on_mapped(ReadModel, claim)
