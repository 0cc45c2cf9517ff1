"""A shop whose events are published, by a publisher for each broker that the tests use."""

from __future__ import annotations

from faststream.rabbit import RabbitBroker
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import Publisher, ReadModel, Worker, map_from_event
from sa_eventsource.projections import RetryPolicy
from sa_eventsource.read_models import count
from tests.shop import AnyTill, Sold, TillClosed


class Base(DeclarativeBase):
    """Base of a shop."""


class Till(AnyTill, Base):
    """Where things are sold."""

    __aggregate_type__ = "Till"


class Sales(ReadModel, Base):
    """What was sold at a till: who follows the log beside the publishers."""

    __projection_name__ = "publishing.sales"
    id: Mapped[str] = map_from_event(Sold, key=True, source="aggregate_id")
    number: Mapped[int] = map_from_event(Sold, reduce=count())


def sell(engine: Engine, *tills: str, times: int = 1, what: str = "pen") -> None:
    """Sell something so many times at each till, in turn; a commit for each turn."""
    with Session(engine) as session:
        for _ in range(times):
            for till_id in tills:
                till = session.get(Till, till_id) or Till(id=till_id)
                session.add(till)
                till.apply_event(Sold(number=till.version + 1, what=what))
            session.commit()


publisher = Publisher("publishing.seam", Sold, TillClosed, broker=RabbitBroker("amqp://127.0.0.1:1/"), base=Base, batch_size=50)
"""Its sender is replaced by the tests."""

sharded = Publisher("publishing.sharded", Sold, broker=RabbitBroker("amqp://127.0.0.1:1/"), base=Base, shards=3)
"""Likewise, in three parts."""


def publish(engine: Engine, *names: str, attempts: int = 2) -> int:
    """Have a publisher publish what is there."""
    return Worker(engine, Base, only=names, retries=RetryPolicy(attempts=attempts, first_pause=0)).run_once()
