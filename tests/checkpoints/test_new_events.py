"""What a worker knows of a log between two questions, where the server is another one meanwhile."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, literal
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import AggregateRoot, DomainEvent, ReadModel, Worker, map_from_event
from sa_eventsource.checkpoints import new_events
from sa_eventsource.read_models import count


class Base(DeclarativeBase):
    """Base of a log of stamps."""


class Stamped(DomainEvent):
    """A letter was stamped."""

    __event_type__ = "new_events.Stamped"


class Letter(AggregateRoot[str], Base):
    """What is stamped."""

    __aggregate_type__ = "new_events.Letter"
    __ignored_events__ = (Stamped,)


class Stamps(ReadModel, Base):
    """How many there are on each letter."""

    __projection_name__ = "stamps"
    id: Mapped[str]
    number: Mapped[int] = map_from_event(Stamped, reduce=count())


def stamp(engine: Engine) -> None:
    with Session(engine) as session:
        letter = session.get(Letter, "a") or Letter(id="a")
        session.add(letter)
        letter.apply_event(Stamped())
        session.commit()


def test_a_server_that_lacks_the_last_transactions_has_all_asked_again(
    postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a failover to a standby that was behind: it gives the same transaction ids to others."""
    Base.metadata.create_all(postgres_engine)
    stamp(postgres_engine)
    polling = Worker(postgres_engine, Base)._pollings(lambda: False)[0]
    with Session(postgres_engine) as session, monkeypatch.context() as former_primary:
        polling.wake(session)
        former_primary.setattr(new_events, "current_snapshot", lambda: literal("900000000:900000000:"))
        polling.wake(session)
    stamp(postgres_engine)
    with Session(postgres_engine) as session:
        polling.wake(session)
        assert session.get_one(Stamps, "a").number == 2
