"""sa_eventsource: a declared read model, or one by ``@evolves``, in a table of its own; a worker that is told of commits."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import URL, create_engine, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from benchmarks.domain import Base, ItemAdded, Order
from sa_eventsource import Announcer, EventReplayer, ReadModel, ReadModelManager, RecordedEvent, Worker, evolves, map_from_event
from sa_eventsource.read_models import count, sum_

if TYPE_CHECKING:
    from uuid import UUID


class OrderTotal(ReadModel, Base):
    """Declared fields: the database does the arithmetic."""

    __tablename__ = "peers_order_totals"
    __projection_name__ = "peers_order_total"

    id: Mapped[str] = map_from_event(key=True, source="aggregate_id")
    lines: Mapped[int] = map_from_event(ItemAdded, reduce=count())
    total: Mapped[Decimal] = map_from_event(ItemAdded, source="price", reduce=sum_())


class EvolvedOrderTotal(ReadModel, Base):
    """A method that gets each event, as the peers' read models do."""

    __tablename__ = "peers_evolved_order_totals"
    __projection_name__ = "peers_evolved_order_total"

    id: Mapped[str]
    lines: Mapped[int] = mapped_column(default=0)
    total: Mapped[Decimal] = mapped_column(default=Decimal(0))

    @evolves(ItemAdded)
    def _added(self, recorded: RecordedEvent[ItemAdded]) -> None:
        self.lines += 1
        self.total += recorded.event.price


class SaEventsource:
    """The library as its how-to guides say."""

    def __init__(self, url: URL, connections: int, *, evolving: bool) -> None:
        """Connect; the announcer takes a connection more."""
        self._model = EvolvedOrderTotal if evolving else OrderTotal
        self.view = self._model.__tablename__
        self._engine = create_engine(url, pool_size=connections + 1)
        self._announcer = Announcer(self._engine).__enter__()

    def create_tables(self) -> None:
        """Create the log and both read models' tables."""
        Base.metadata.create_all(self._engine)

    def append(self, lines: int) -> UUID:
        """Add a new aggregate to a session, and commit."""
        with Session(self._engine) as session:
            order = Order()
            for number in range(lines):
                order.add(number)
            order_id = order.id
            session.add(order)
            session.commit()
        return order_id

    def catch_up(self) -> None:
        """Take what is new, in batches of the size that suits the model."""
        ReadModelManager(self._engine, Base).catch_up(self._model)

    def rebuild(self) -> None:
        """Replace the rows in one transaction."""
        EventReplayer(self._engine, Base).rebuild(self._model)

    def forget(self) -> None:
        """Remove the rows and the checkpoint."""
        with self._engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {self.view}"))
            connection.execute(text("DELETE FROM projection_positions"))

    def follow(self) -> None:
        """Run the worker."""
        Worker(self._engine, Base, only=[self._model.__projection_name__], listen=True).run()

    def close(self) -> None:
        """End the announcer, and let go of the connections."""
        self._announcer.__exit__()
        self._engine.dispose()


def contender(url: URL, connections: int, *, evolving: bool = False) -> SaEventsource:
    """Connect to the database."""
    return SaEventsource(url, connections, evolving=evolving)
