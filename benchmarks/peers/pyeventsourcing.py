"""eventsourcing: its PostgreSQL module, an application, and a projection as in part 4 of its tutorial: a transaction an event."""
# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import InfrastructureFactory
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import Environment
from psycopg.sql import SQL

from benchmarks.peers.orders import ADD, VIEW, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from eventsourcing.persistence import Tracking
    from sqlalchemy import URL

_VIEW = "peers_eventsourcing_totals"
_BETWEEN_LOOKS = 0.005


class Order(Aggregate):
    """An order: placed with its first line, and added to."""

    class Placed(Aggregate.Created):
        customer_id: str
        sku: str
        quantity: int
        price: Decimal

    class ItemAdded(Aggregate.Event):
        customer_id: str
        sku: str
        quantity: int
        price: Decimal

    @event(Placed)
    def __init__(self, customer_id: str, sku: str, quantity: int, price: Decimal) -> None:  # noqa: ARG002 - the event has them
        self.items = quantity
        self.total = price * quantity

    @event(ItemAdded)
    def add(self, customer_id: str, sku: str, quantity: int, price: Decimal) -> None:  # noqa: ARG002 - the event has them
        self.items += quantity
        self.total += price * quantity


class Orders(Application[UUID]):
    """The application that orders belong to."""


class Totals(PostgresTrackingRecorder):
    """The view: it keeps how far it has come in the transaction that changes a row."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sql_create_statements.append(SQL(VIEW).format(name=SQL(_VIEW)))
        self._add = SQL(ADD).format(name=SQL(_VIEW))

    def add(self, order_id: UUID, price: Decimal, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(self._add, {"id": str(order_id), "lines": 1, "total": price}, prepare=True)

    def forget(self, application_name: str) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(SQL("TRUNCATE {}").format(SQL(_VIEW)))
            # The table has a row of the library's own, too.
            tracking = SQL("DELETE FROM {} WHERE application_name = %s").format(SQL(self.tracking_table_name))
            cursor.execute(tracking, (application_name,))


class TotalsProjection(Projection[Totals]):
    """Takes each event to the view."""

    name = "totals"

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        raise NotImplementedError(domain_event)

    @process_event.register(Order.Placed)
    def _placed(self, domain_event: Order.Placed, tracking: Tracking) -> None:
        self.view.add(domain_event.originator_id, domain_event.price, tracking)

    @process_event.register(Order.ItemAdded)
    def _added(self, domain_event: Order.ItemAdded, tracking: Tracking) -> None:
        self.view.add(domain_event.originator_id, domain_event.price, tracking)


class EventSourcing:
    """The library as its documentation says."""

    view = _VIEW

    def __init__(self, url: URL, connections: int, *, functions: bool) -> None:
        """Describe the connections; the pool of a runner's subscription has room for its listener too."""
        self._env = {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": url.database or "postgres",
            "POSTGRES_HOST": url.host or str(url.query["host"]),
            "POSTGRES_PORT": str(url.port or ""),
            "POSTGRES_USER": url.username or "postgres",
            "POSTGRES_PASSWORD": url.password or "",
            "POSTGRES_POOL_SIZE": str(connections),
            "POSTGRES_MAX_OVERFLOW": "2",
            "POSTGRES_ENABLE_DB_FUNCTIONS": "y" if functions else "n",
            "CREATE_TABLE": "n",  # of several processes that create the function at once, all but one fail
        }
        self._orders = Orders(self._env)

    def create_tables(self) -> None:
        """Make an application and a view that create their tables; an application knows only the types that were there before."""
        self._orders.close()
        creating = self._env | {"CREATE_TABLE": "y"}
        Orders(creating).close()
        with self._view(creating):
            pass
        self._orders = Orders(self._env)

    def append(self, lines: int) -> UUID:
        """Save a new aggregate."""
        order = Order(**line(0))
        for number in range(1, lines):
            order.add(**line(number))
        self._orders.save(order)
        order_id: UUID = order.id
        return order_id

    def catch_up(self) -> None:
        """Run the projection until it has taken the last event."""
        last = self._orders.recorder.max_notification_id()
        with self._runner() as runner:
            while not runner.view.has_tracking_id(self._orders.name, last):
                if runner.is_interrupted.is_set():
                    break  # it failed, and says so at the end of the block
                time.sleep(_BETWEEN_LOOKS)

    def rebuild(self) -> None:
        """Forget the view, and run the projection from the beginning."""
        self.forget()
        self.catch_up()

    def forget(self) -> None:
        """Empty the view, and let it begin again."""
        with self._view(self._env) as view:
            view.forget(self._orders.name)

    def follow(self) -> NoReturn:
        """Run the projection."""
        with self._runner() as runner:
            runner.run_forever()
        raise RuntimeError("the projection has ended")

    def close(self) -> None:
        """Let go of the connections."""
        self._orders.close()

    @contextmanager
    def _view(self, environment: dict[str, str]) -> Iterator[Totals]:
        with InfrastructureFactory.construct(Environment(TotalsProjection.name, environment)) as factory:
            yield factory.tracking_recorder(Totals)

    def _runner(self) -> ProjectionRunner[Orders, Totals]:
        return ProjectionRunner(application_class=Orders, projection_class=TotalsProjection, view_class=Totals, env=self._env)


def contender(url: URL, connections: int, *, functions: bool = False) -> EventSourcing:
    """Connect to the database."""
    return EventSourcing(url, connections, functions=functions)
