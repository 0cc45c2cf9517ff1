"""Anonymising from the beginning to the end."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from sa_eventsource import anonymise


def anonymise_all(session: Session, events: Any, field: str, value: str | int = "(anonymous)", **options: Any) -> None:
    """Put a value in the place of what a field holds in all events of a query, in as many transactions as it takes."""
    options = {"name": "all", "reason": "retention", **options}
    while not anonymise(events, [field], lambda _found: value, **options).is_finished:
        session.commit()
    session.commit()
