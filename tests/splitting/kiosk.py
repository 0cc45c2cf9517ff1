"""A kiosk whose earlier releases wrote down a sale as one event, and what is made of it now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_eventsource import (
    AggregateRoot,
    DomainEvent,
    EventSourceOptions,
    ProcessManager,
    ReadModel,
    RecordedEvent,
    applies,
    evolves,
    handles,
    load_for_update,
    map_from_event,
    reacts,
    subscribe,
    upcast,
)
from sa_eventsource.read_models import append, count, first, last, sum_


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class Opened(DomainEvent):
    __event_type__ = "kiosk.Opened"
    __event_version__ = 2

    name: str


class CashAdded(DomainEvent):
    __event_type__ = "kiosk.CashAdded"
    amount: int


class ItemTaken(DomainEvent):
    __event_type__ = "kiosk.ItemTaken"
    item: str
    till: str = "only"


class ItemPaid(DomainEvent):
    __event_type__ = "kiosk.ItemPaid"
    item: str
    price: int


@upcast("kiosk.Sold", from_version=1)
def _name_the_till(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "till": "first"}


@upcast("kiosk.Sold", from_version=2, into=(ItemTaken, ItemPaid))
def _split_sale(payload: dict[str, Any]) -> list[DomainEvent]:
    return [
        ItemTaken(item=payload["item"], till=payload["till"]),
        ItemPaid(item=payload["item"], price=payload["price"]),
        *(ItemTaken(item=each, till=payload["till"]) for each in payload.get("gifts", ())),
    ]


@upcast("kiosk.Ticked", from_version=1, into=())
def _forget_ticks(payload: dict[str, Any]) -> list[DomainEvent]:
    return []


@upcast(Opened, from_version=1, into=(Opened, CashAdded))
def _split_opening(payload: dict[str, Any]) -> list[DomainEvent]:
    return [Opened(name=payload["name"]), CashAdded(amount=payload["float"])]


class Kiosk(AggregateRoot[str], Base):
    __aggregate_type__ = "kiosk.Kiosk"
    __snapshot_frequency__ = 2

    seen: tuple[str, ...] = ()
    cash: int = 0

    @applies(Opened)
    def _opened(self, event: Opened) -> None:
        self.seen = (*self.seen, "opened")

    @applies(CashAdded)
    def _added(self, event: CashAdded) -> None:
        self.seen = (*self.seen, "added")
        self.cash += event.amount

    @applies(ItemTaken)
    def _taken(self, event: ItemTaken) -> None:
        self.seen = (*self.seen, f"taken {event.item}")

    @applies(ItemPaid)
    def _paid(self, event: ItemPaid) -> None:
        self.seen = (*self.seen, f"paid {event.item}")
        self.cash += event.price


class Takings(ReadModel, Base):
    """All families of fields, a row a kiosk."""

    __projection_name__ = "kiosk_takings"

    id: Mapped[str] = map_from_event(key=True, source="log.aggregate_id")
    latest: Mapped[str | None] = map_from_event({ItemTaken: last("till"), ItemPaid: last("item")})
    began: Mapped[str | None] = map_from_event({ItemTaken: first("till"), ItemPaid: first("item")})
    taken: Mapped[int] = map_from_event({ItemTaken: count()})
    cash: Mapped[int] = map_from_event({ItemPaid: sum_("price"), CashAdded: sum_("amount")})
    steps: Mapped[list[str]] = map_from_event({ItemTaken: append("item"), ItemPaid: append("item")})


class TakingsOfItem(ReadModel, Base):
    """Rows that several streams feed."""

    __tablename__ = "kiosk_items"

    item: Mapped[str] = map_from_event(ItemTaken, ItemPaid, key=True)
    latest: Mapped[str | None] = map_from_event({ItemTaken: last("till"), ItemPaid: last("log.aggregate_id")})
    place: Mapped[int | None] = map_from_event({ItemTaken: last("log.position"), ItemPaid: last("log.position")})


class OpenItem(ReadModel, Base):
    """A row that one part makes, the next one removes, and a further one makes once more."""

    __projection_name__ = "kiosk_open"
    __removed_by__ = (ItemPaid,)

    id: Mapped[str] = map_from_event(key=True, source="log.aggregate_id")
    item: Mapped[str | None] = map_from_event(ItemTaken)
    number: Mapped[int] = map_from_event({ItemTaken: count()})


class Journal(ReadModel, Base):
    """Declared fields beside a handler."""

    __tablename__ = "kiosk_journal"

    id: Mapped[str] = map_from_event(key=True, source="log.aggregate_id")
    item: Mapped[str | None] = map_from_event(ItemTaken)
    note: Mapped[str] = mapped_column(server_default="", default="")

    @classmethod
    @handles(ItemPaid)
    def _paid(cls, recorded: RecordedEvent[ItemPaid], session: Session) -> None:
        row = load_for_update(session, Journal, recorded.aggregate_id)
        row.note = f"{row.note}{row.item}:{recorded.event.price};"


class Counted(ReadModel, Base):
    """Rows that methods work out."""

    __projection_name__ = "kiosk_counted"

    id: Mapped[str] = map_from_event(key=True, source="log.aggregate_id")
    path: Mapped[str] = mapped_column(default="")

    @evolves(ItemTaken)
    def _taken(self, recorded: RecordedEvent[ItemTaken]) -> None:
        self.path += "t"

    @evolves(ItemPaid)
    def _paid(self, recorded: RecordedEvent[ItemPaid]) -> None:
        self.path += "p"


FOLDED = (Takings, TakingsOfItem, OpenItem, Counted)

calls: list[tuple[str, UUID, int]] = []


@subscribe("kiosk.mailer", ItemPaid, CashAdded, base=Base, batch_size=2)
def mail(recorded: RecordedEvent[Any], session: Session) -> None:
    calls.append((type(recorded.event).__name__, recorded.event_id, recorded.version))


class Restocked(DomainEvent):
    __event_type__ = "kiosk.Restocked"
    item: str


class Restocking(ProcessManager[str], Base):
    __aggregate_type__ = "kiosk.Restocking"

    items: tuple[str, ...] = ()

    @reacts(ItemTaken)
    def _on_taken(self, event: ItemTaken) -> list[object]:
        return [Restocked(item=event.item)]

    @applies(Restocked)
    def _restocked(self, event: Restocked) -> None:
        self.items = (*self.items, event.item)


SOLD = {"item": "tea", "price": 3}
SOLD_WITH_GIFT = {"item": "tea", "price": 3, "till": "left", "gifts": ["mint"]}
TICKED: dict[str, Any] = {"beat": 1}
OPENED = {"name": "North", "float": 50}

MORNING = datetime(2026, 1, 5, 8, tzinfo=UTC)


def store(connection: Connection, kiosk: str, *events: tuple[str, int, dict[str, Any]], after: int = 0) -> list[UUID]:
    """Put events into the log as earlier releases did; return their ids."""
    table = Base.metadata.tables["events"]
    ids = [uuid4() for _ in events]
    position: dict[str, Any] = {} if connection.dialect.name == "postgresql" else {"position": None}
    for version, (event_id, (name, shape, payload)) in enumerate(zip(ids, events, strict=True), after + 1):
        if position:
            position["position"] = (connection.exec_driver_sql("SELECT coalesce(max(position), 0) FROM events").scalar() or 0) + 1
        connection.execute(
            insert(table).values(
                event_id=event_id,
                aggregate_type="kiosk.Kiosk",
                aggregate_id=kiosk,
                version=version,
                event_type=name,
                event_version=shape,
                event_data=payload,
                occurred_at=MORNING + timedelta(minutes=version),
                **position,
            )
        )
    return ids


HISTORY: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("kiosk.Opened", 1, OPENED),
    ("kiosk.Ticked", 1, TICKED),
    ("kiosk.Sold", 1, SOLD),
    ("kiosk.ItemTaken", 1, {"item": "milk", "till": "only"}),
    ("kiosk.Sold", 2, SOLD_WITH_GIFT),
)
