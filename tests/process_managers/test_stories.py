"""Stories of an order, its payment and its shipment, as a process manager lets them happen."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine, func, select, update
from sqlalchemy.orm import DeclarativeBase, Session

from sa_eventsource import (
    After,
    DeclarationError,
    DomainEvent,
    EventReplayer,
    EventStore,
    ProcessManager,
    RetryPolicy,
    Worker,
    reacts,
)
from sa_eventsource.processes.reactions import reactions_of
from tests.committing import commit_events
from tests.process_managers.fulfilment import (
    PLACED,
    Base,
    CancelOrder,
    Fulfilment,
    FulfilmentBegun,
    FulfilmentPaid,
    GiveUpWaiting,
    Order,
    Payment,
    PaymentOverdue,
    PaymentReceived,
    Refund,
    RequestPayment,
    Ship,
    sold_out,
)
from tests.proofs.cutting import Child, Cut, Points
from tests.shop import OrderPlaced
from tests.waiting import wait_until

COMMANDS = Base.metadata.tables["commands"]


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    sold_out.clear()


def place(engine: Engine, order_id: str) -> None:
    commit_events(engine, Order, order_id, PLACED)


def pay(engine: Engine, order_id: str) -> None:
    with Session(engine) as session:
        session.get_one(Payment, order_id).apply_event(PaymentReceived(order_id=order_id))
        session.commit()


def let_work(engine: Engine) -> None:
    """Let events and commands follow from each other until nothing more follows."""
    worker = Worker(engine, Base, retries=RetryPolicy(attempts=1))
    before = -1
    while (now := _stored(engine)) != before:
        before = now
        worker.run_once()


def _stored(engine: Engine) -> int:
    with engine.connect() as connection:
        events = connection.scalar(select(func.count()).select_from(Base.metadata.tables["events"])) or 0
        return events + (connection.scalar(select(func.count()).select_from(COMMANDS)) or 0)


def time_passes(engine: Engine) -> None:
    """Have everything due that is scheduled."""
    with engine.begin() as connection:
        connection.execute(update(COMMANDS).where(COMMANDS.c.status == "scheduled").values(due_at=datetime.now(UTC)))


def state(engine: Engine, order_id: str) -> tuple[str, str, str]:
    with Session(engine) as session:
        payment = session.get(Payment, order_id)
        return (
            session.get_one(Order, order_id).status.value,
            "none" if payment is None else payment.status,
            session.get_one(Fulfilment, order_id).stage,
        )


def test_an_order_that_is_paid_is_shipped(engine: Engine) -> None:
    place(engine, "o-1")
    let_work(engine)
    assert state(engine, "o-1") == ("placed", "requested", "waiting for payment")
    pay(engine, "o-1")
    let_work(engine)
    assert state(engine, "o-1") == ("shipped", "received", "ended")
    time_passes(engine)  # the command that would have given up finds that there is nothing to do
    let_work(engine)
    assert state(engine, "o-1") == ("shipped", "received", "ended")


def test_a_payment_that_never_comes_cancels_the_order(engine: Engine) -> None:
    place(engine, "o-1")
    let_work(engine)
    time_passes(engine)
    let_work(engine)
    assert state(engine, "o-1") == ("cancelled", "requested", "given up")


def test_a_process_that_is_closed_reacts_to_nothing_and_stops_no_other(engine: Engine) -> None:
    for order_id in ("o-1", "o-2"):
        place(engine, order_id)
    let_work(engine)
    with Session(engine) as session:
        session.get_one(Fulfilment, "o-1").close_stream("settled by hand")
        session.commit()
    for order_id in ("o-1", "o-2"):
        pay(engine, order_id)
    let_work(engine)
    assert state(engine, "o-1") == ("placed", "received", "waiting for payment")
    assert state(engine, "o-2") == ("shipped", "received", "ended")


def test_a_payment_that_comes_too_late_is_given_back(engine: Engine) -> None:
    place(engine, "o-1")
    let_work(engine)
    time_passes(engine)
    let_work(engine)
    pay(engine, "o-1")
    let_work(engine)
    assert state(engine, "o-1") == ("cancelled", "refunded", "given up")


def test_what_cannot_be_shipped_is_compensated(engine: Engine) -> None:
    sold_out.add("o-1")
    place(engine, "o-1")
    let_work(engine)
    pay(engine, "o-1")
    let_work(engine)
    assert state(engine, "o-1") == ("cancelled", "refunded", "ended")


def test_processes_do_not_disturb_each_other(engine: Engine) -> None:
    sold_out.add("o-2")
    for number in range(4):
        place(engine, f"o-{number}")
    let_work(engine)
    for number in (0, 2):
        pay(engine, f"o-{number}")
    let_work(engine)
    time_passes(engine)
    let_work(engine)
    assert [state(engine, f"o-{number}")[0] for number in range(4)] == ["shipped", "cancelled", "cancelled", "cancelled"]


def test_a_time_out_counts_from_the_event(engine: Engine) -> None:
    place(engine, "o-1")
    let_work(engine)
    with Session(engine) as session:
        placed = EventStore(session, Base).events.of(Order, "o-1").all()[0]
        due = session.scalar(select(COMMANDS.c.due_at).where(COMMANDS.c.command_type == "fulfilment.GiveUpWaiting"))
    assert due is not None
    assert due - placed.occurred_at == timedelta(minutes=30)


def test_all_that_follows_knows_where_it_comes_from(engine: Engine) -> None:
    place(engine, "o-1")
    let_work(engine)
    with Session(engine) as session:
        store = EventStore(session, Base).events
        placed, begun = store.of(Order, "o-1").all()[0], store.of(Fulfilment, "o-1").all()[0]
        requested = store.of(Payment, "o-1").all()[0]
        row = session.execute(select(COMMANDS).where(COMMANDS.c.command_type == "fulfilment.RequestPayment")).one()
    assert begun.causation_id == row.causation_id == placed.event_id
    assert requested.causation_id == row.command_id
    assert begun.correlation_id == row.correlation_id == requested.correlation_id == placed.event_id


def test_an_event_for_no_process_is_passed_over(engine: Engine) -> None:
    commit_events(engine, Payment, "p-1", PaymentReceived(order_id=None))
    let_work(engine)
    with Session(engine) as session:
        assert session.scalars(select(Fulfilment)).all() == []


def test_what_is_taken_once_more_adds_nothing(postgres_engine: Engine) -> None:
    place(postgres_engine, "o-1")
    let_work(postgres_engine)
    pay(postgres_engine, "o-1")
    let_work(postgres_engine)
    stored = _stored(postgres_engine)
    EventReplayer(postgres_engine, Base).rewind("fulfilment.Fulfilment", to=0)
    let_work(postgres_engine)
    assert _stored(postgres_engine) == stored
    assert state(postgres_engine, "o-1") == ("shipped", "received", "ended")


def test_methods_are_pure_and_can_be_called() -> None:
    process = Fulfilment(id="o-1")
    begun, request, give_up = process.on_placed(PLACED)
    assert (begun, request) == (FulfilmentBegun(), RequestPayment(order_id="o-1"))
    assert give_up == After(timedelta(minutes=30), GiveUpWaiting(order_id="o-1"))
    process.apply_event(FulfilmentBegun())
    assert process.on_paid(PaymentReceived(order_id="o-1")) == [FulfilmentPaid(), Ship(order_id="o-1")]
    process.apply_event(PaymentOverdue())
    assert process.on_paid(PaymentReceived(order_id="o-1")) == Refund(order_id="o-1")


def work(points: Points, url: str) -> None:
    engine = create_engine(url)
    points.watch(engine)
    let_work(engine)


@pytest.mark.parametrize("number", [2, 9, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 4, 6, 12, 15))])
@pytest.mark.parametrize("kind", ["after INSERT", "before UPDATE", "before COMMIT", "COMMIT sent"])
def test_killed_anywhere_it_goes_on_without_a_step_lost_or_done_twice(kind: str, number: int, postgres_engine: Engine) -> None:
    url = postgres_engine.url.render_as_string(hide_password=False)
    sold_out.add("o-2")
    for order in range(3):
        place(postgres_engine, f"o-{order}")
    with Child(work, url, cuts=(Cut(number, kind),)) as worker:
        while (said := worker.listen()) is not None and said[0] not in ("at", "done"):
            assert said[0] != "failed", said
        worker.kill()
    wait_until(lambda: _is_waiting(postgres_engine))
    for order in (0, 2):
        pay(postgres_engine, f"o-{order}")
    wait_until(lambda: _ends(postgres_engine))
    with Session(postgres_engine) as session:
        types = [each.event.__event_type__.partition(".")[2] for each in EventStore(session, Base).events.all()]
    assert {name: types.count(name) for name in types} == {
        "OrderPlaced": 3,
        "FulfilmentBegun": 3,
        "PaymentRequested": 3,
        "PaymentReceived": 2,
        "FulfilmentPaid": 2,
        "ParcelShipped": 1,
        "OutOfStock": 1,
        "FulfilmentEnded": 2,
        "OrderShipped": 1,
        "PaymentRefunded": 1,
        "OrderCancelled": 1,
    }


def _is_waiting(engine: Engine) -> bool:
    let_work(engine)
    with Session(engine) as session:
        return len(session.scalars(select(Payment)).all()) == 3


def _ends(engine: Engine) -> bool:
    let_work(engine)
    return [state(engine, f"o-{order}")[0] for order in (0, 2)] == ["shipped", "cancelled"]


class Kind(Enum):
    HOME = "home"


class Address(BaseModel):
    id: str
    kind: Kind


class Sent(DomainEvent):
    __event_type__ = "fulfilment.Sent"
    order: Address | None
    reason: str
    extra: dict[str, str] | list[str]


class TestDeclarations:
    def test_it_must_react_to_something(self) -> None:
        with pytest.raises(DeclarationError, match="Idle reacts to no event"):

            class Idle(ProcessManager, Base):
                pass

    def test_it_needs_the_table_of_commands(self) -> None:
        class OtherBase(DeclarativeBase):
            pass

        with pytest.raises(DeclarationError, match='commands="commands"'):

            class Without(ProcessManager, OtherBase):
                @reacts(OrderPlaced)
                def on_placed(self, event: OrderPlaced) -> None:
                    """Nothing follows."""

    def test_a_field_that_the_event_lacks_is_refused(self) -> None:
        with pytest.raises(DeclarationError, match="the event has no such field; it has: customer_id, lines, total"):

            @reacts(OrderPlaced, by="order_id")
            def on_placed(self: object, event: OrderPlaced) -> None:
                """Nothing."""

    @pytest.mark.parametrize(
        ("by", "message"),
        [
            ("order.number", "Address has no such field; it has: id, kind"),
            ("order.id.value", "a str has no value"),
            (1, "by is the name of a field"),
            ("reason.x", "a str has no x"),
        ],
    )
    def test_a_way_that_leads_nowhere_is_refused(self, by: Any, message: str) -> None:
        with pytest.raises(DeclarationError, match=message):
            reacts(Sent, by=by)

    @pytest.mark.parametrize("by", ["order.id", "order.kind.value", "order", "extra.anything"])
    def test_a_way_that_may_lead_somewhere_is_taken(self, by: str) -> None:
        reacts(Sent, by=by)

    def test_two_methods_for_one_event_are_refused(self) -> None:
        class Twice:
            @reacts(OrderPlaced)
            def one(self, event: OrderPlaced) -> None:
                """Nothing."""

            @reacts(OrderPlaced)
            def other(self, event: OrderPlaced) -> None:
                """Nothing."""

        with pytest.raises(DeclarationError, match="one and other"):
            reactions_of(Twice)

    def test_a_coroutine_function_is_refused(self) -> None:
        with pytest.raises(DeclarationError, match="coroutine function"):

            @reacts(OrderPlaced)
            async def on_placed(self: object, event: OrderPlaced) -> None:
                """Nothing."""

    def test_an_event_class_is_wanted(self) -> None:
        with pytest.raises(DeclarationError, match="@reacts takes event classes"):
            reacts(CancelOrder)  # type: ignore[arg-type]

    def test_after_takes_a_duration_and_a_command(self) -> None:
        with pytest.raises(TypeError, match="takes a timedelta"):
            After(30, CancelOrder(order_id="1", reason="x"))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="takes a command"):
            After(timedelta(1), PLACED)
