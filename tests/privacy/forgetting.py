"""Someone is forgotten in a transaction of its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from sa_eventsource import forget


def forget_person(engine: Engine, person: str, base: Any) -> None:
    """Forget someone, as an officer does."""
    with Session(engine) as session:
        forget(session, person, reason="asked", base=base)
        session.commit()
