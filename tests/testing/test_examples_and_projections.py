"""Events with values from their schemas, recorded events from plain ones, and the rows of read models that follow from them."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

import pytest
from pydantic import UUID4, AwareDatetime, BaseModel, Field, FutureDatetime, HttpUrl, PastDate, ValidationError, field_validator
from sqlalchemy.orm import Mapped, mapped_column

from sa_eventsource import Command, DomainEvent, EventPayloadError, NoDatabaseError, ReadModel, RecordedEvent, evolves, fold
from sa_eventsource.testing import example, projected, recorded, scenario
from tests.read_models.shop import Base, Order, OrderList, OrderStats, Rating, Reviewed, UserOrders
from tests.shop import OrderCancelled, OrderPaid, OrderPlaced

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


PAID = OrderPaid(payment_id="p-1")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    lines: list[str]


class Card(BaseModel):
    kind: Literal["card"]
    number: int


class Cash(BaseModel):
    kind: Literal["cash"]


class Everything(DomainEvent):
    __event_type__ = "testing.Everything"
    text: str
    long_text: Annotated[str, Field(min_length=12)]
    short: Annotated[str, Field(max_length=3)]
    number: int
    positive: Annotated[int, Field(gt=5)]
    even: Annotated[int, Field(ge=7, multiple_of=2)]
    price: Annotated[Decimal, Field(ge=Decimal("2.5"), max_digits=4, decimal_places=2)]
    ratio: Annotated[float, Field(lt=1)]
    flag: bool
    colour: Colour
    kind: Literal["b", "a"]
    at: AwareDatetime
    born: PastDate
    takes: timedelta
    id: UUID
    random_id: UUID4
    site: HttpUrl
    address: Address
    addresses: Annotated[list[Address], Field(min_length=2)]
    pair: tuple[int, str]
    many: tuple[str, ...]
    either: int | str
    payment: Annotated[Card | Cash, Field(discriminator="kind")]
    optional: str | None
    by_name: dict[str, int]
    nested: Everything | None = None
    listed: list[int] = Field(default_factory=lambda: [1])
    aliased: int = Field(alias="aliasedField")


def test_every_field_gets_a_value_that_its_schema_takes() -> None:
    made = example(Everything)
    assert made == example(Everything)
    assert (made.text, made.long_text, made.short, made.number) == ("text", "long_textxxx", "sho", 1)
    assert (made.positive, made.even, made.price, made.ratio) == (6, 8, Decimal("2.5"), 0.99)
    assert (made.colour, made.kind, made.at, made.born) == (Colour.RED, "b", NOON, date(2025, 1, 1))
    assert made.address == Address(street="street", lines=[])
    assert len(made.addresses) == 2
    assert (made.pair, made.many, made.either, made.optional, made.by_name) == ((1, "pair_2"), (), 1, None, {})
    assert made.payment == Card(kind="card", number=1)
    assert (made.listed, made.nested, made.aliased) == ([1], None, 1)


def test_the_fields_that_matter_are_given() -> None:
    assert example(OrderPlaced, total=Decimal(10)) == OrderPlaced(customer_id="customer_id", total=Decimal(10))
    assert example(Everything, aliased=3, text="x").aliased == 3

    class Pay(Command[None]):
        __command_type__ = "testing.Pay"
        amount: Decimal
        order_id: str

    assert example(Pay, order_id="o-1") == Pay(amount=Decimal(1), order_id="o-1")

    class Promise(BaseModel):
        until: FutureDatetime

    assert example(Promise).until.year == 9000


def test_what_only_the_application_can_tell_is_asked_for() -> None:
    class Coded(DomainEvent):
        __event_type__ = "testing.Coded"
        code: Annotated[str, Field(pattern=r"^\d{3}$")]
        word: str

        @field_validator("word")
        @classmethod
        def _short(cls, word: str) -> str:
            if len(word) > 3:
                raise ValueError("too long")
            return word

    with pytest.raises(TypeError, match=r"no example of Coded can be made by its schema: give code=..., word=..."):
        example(Coded)
    assert example(Coded, code="123", word="abc").code == "123"
    with pytest.raises(ValidationError, match="code"):
        example(Coded, code="12", word="abc")


def test_an_example_can_be_recorded() -> None:
    scenario(Order).given(example(OrderPlaced)).when(lambda order: order.pay("p-1")).state(payment_id="p-1", total=1)


def test_recorded_events_are_as_a_log_gives_them() -> None:
    first, second = recorded(
        OrderPlaced(customer_id="c-1", total=Decimal(1)), PAID, of=Order, id="o-1", every=timedelta(hours=1), position=5, user="ann"
    )
    assert (first.aggregate_type, first.aggregate_id, first.version, first.position) == ("shop.Order", "o-1", 1, 5)
    assert (second.version, second.position, second.occurred_at) == (2, 6, NOON + timedelta(hours=1))
    assert (second.event, second.event_type, second.event_version, second.metadata) == (PAID, "shop.OrderPaid", 1, {"user": "ann"})
    assert first.event_id != second.event_id
    assert recorded(PAID, of="Parcel", version=3)[0].aggregate_type == "Parcel"
    with pytest.raises(EventPayloadError):
        recorded(OrderPlaced(customer_id="\x00", total=Decimal(1)))
    with pytest.raises(ValueError, match="time zone"):
        recorded(PAID, at=datetime(2025, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="position"):
        recorded(PAID, position=0)


def test_rows_are_worked_out_in_memory() -> None:
    rows = projected(OrderList, recorded(example(OrderPlaced, total=Decimal(10)), PAID, of=Order, id="o-1"))
    row = rows["o-1"]
    assert isinstance(row, OrderList)
    assert (row.id, row.status, row.total, row.customer_id, row.version) == ("o-1", "paid", Decimal(10), "customer_id", 2)
    assert row.created_at == NOON


def test_plain_events_are_those_of_one_stream() -> None:
    assert projected(OrderList, [example(OrderPlaced), PAID])["1"].status == "paid"
    assert projected(OrderList, [example(OrderPlaced), OrderCancelled(reason="late")]) == {}


def test_streams_meet_in_the_order_given() -> None:
    one = recorded(OrderPlaced(customer_id="c-1", total=Decimal(1)), of=Order, id="o-1")
    two = recorded(OrderPlaced(customer_id="c-1", total=Decimal(2)), of=Order, id="o-2", at=NOON + timedelta(days=1))
    assert projected(UserOrders, one + two).keys() == {("c-1", "o-1"), ("c-1", "o-2")}
    stats = projected(OrderStats, two + one + one)
    assert {day: (row.order_count, row.daily_total) for day, row in stats.items()} == {
        date(2025, 1, 1): (2, Decimal(2)),
        date(2025, 1, 2): (1, Decimal(2)),
    }


def test_rows_follow_from_what_a_scenario_recorded() -> None:
    outcome = scenario(Order, id="o-1").given(example(OrderPlaced)).when(lambda order: order.pay())
    assert projected(OrderList, outcome.events)["o-1"].status == "paid"
    rows = fold(OrderList, outcome.events)
    assert rows["o-1"]["status"] == "paid"


def test_methods_that_evolve_rows_are_called() -> None:
    class Stars(ReadModel, Base):
        __projection_name__ = "testing_stars"
        id: Mapped[str]
        best: Mapped[int] = mapped_column(default=0)

        @evolves(Reviewed)
        def _reviewed(self, event: RecordedEvent[Reviewed]) -> None:
            self.best = max(self.best, event.event.stars)

    assert projected(Stars, [Reviewed(stars=2), Reviewed(stars=5), Reviewed(stars=1)])["1"].best == 5


def test_what_writes_rows_by_itself_needs_a_database() -> None:
    with pytest.raises(NoDatabaseError, match=r"@handles methods of Rating.*eventsource_worker"):
        projected(Rating, [Reviewed(stars=1)])
    with pytest.raises(TypeError, match="takes events, recorded or plain ones, not 1"):
        projected(OrderList, [1])  # type: ignore[list-item]
