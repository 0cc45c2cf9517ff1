"""Scenarios of aggregates and of the handlers of commands: in memory, and readable where they fail."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from unittest.mock import ANY
from uuid import UUID

import pytest
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import object_session

from sa_eventsource import (
    After,
    AggregateRoot,
    DomainEvent,
    EventPayloadError,
    HandlerTransactionError,
    NoDatabaseError,
    UnhandledEventError,
    UnknownCommandError,
    applies,
    event_context,
    upcast,
)
from sa_eventsource.testing import frozen, like, scenario
from tests.bank import Closed, Deposited, NotEnoughMoney, Opened, Withdrawn
from tests.orders import Base, Order
from tests.shop import LINES, NoteAdded, OrderAlreadyPaidError, OrderPaid, OrderPlaced, OrderShipped, OrderStatus, OrderViewed
from tests.testing.bank import Account, CloseUnused, Commit, NoOwner, OpenAccount, Report, Transfer, TransferSlowly

PLACED = OrderPlaced(customer_id="c-1", lines=LINES, total=Decimal("43.30"))
ONE, TWO = UUID(int=1), UUID(int=2)


def message_of(check: Callable[[], object]) -> str:
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value)


# Aggregates ---------------------------------------------------------------------------------------------------------------------


def test_what_a_method_records_is_told() -> None:
    outcome = scenario(Order).given(PLACED).when(lambda order: order.pay("p-1"))
    outcome.then(OrderPaid(payment_id="p-1")).state(status=OrderStatus.PAID, payment_id="p-1", version=2)


def test_a_method_that_refuses() -> None:
    given = scenario(Order).given(PLACED, OrderPaid(payment_id="p-1"))
    given.when(lambda order: order.pay("p-2")).raises(OrderAlreadyPaidError, match="1").then_nothing()


def test_a_new_aggregate_is_made_by_a_function_or_by_its_methods() -> None:
    scenario(Order).when(lambda: Order.place("c-1")).then(PLACED).state(customer_id="c-1")
    scenario(Order).when(lambda order: order.note("hm")).then(NoteAdded(text="hm")).state(notes=["hm"], id="1")
    scenario(Account).when(lambda account: account.open("ann")).state(id=UUID("00000000-0000-7000-8000-000000000001"))


def test_a_scenario_goes_on_from_what_came_of_it() -> None:
    (
        scenario(Order, id="o-7")
        .given(PLACED)
        .when(lambda order: order.pay("p-1"))
        .then(OrderPaid(payment_id="p-1"))
        .when(lambda order: order.ship("post", "t-1"))
        .then(OrderShipped(carrier="post", tracking_number="t-1"))
        .state(status=OrderStatus.SHIPPED, version=3, id="o-7")
    )


def test_a_scenario_is_left_as_it_was_by_what_goes_on_from_it() -> None:
    paid = scenario(Order).given(PLACED, OrderPaid(payment_id="p-1"))
    first = paid.when(lambda order: order.note("a"))
    second = paid.when(lambda order: order.note("b"))
    assert (first.aggregate.notes, second.aggregate.notes, paid.aggregate.notes) == (["a"], ["b"], [])
    assert first.recorded[0].event_id == second.recorded[0].event_id
    assert [each.version for each in first.events] == [1, 2, 3]


def test_what_a_method_returns_is_checked() -> None:
    outcome = scenario(Account).given(Deposited(amount=1)).when(lambda account: account.deposit(4))
    outcome.returns(5).then(Deposited(amount=4))
    assert "expected 6 to be returned, not 5" in message_of(lambda: outcome.returns(6))


def test_events_are_given_as_a_log_would_have_them() -> None:
    with pytest.raises(UnhandledEventError):
        scenario(Order).given(Opened(owner="ann"))
    with pytest.raises(EventPayloadError):
        scenario(Order).given(NoteAdded(text="\x00"))
    assert scenario(Order).given(OrderViewed()).aggregate.version == 1


class Renamed(DomainEvent):
    __event_type__ = "testing.Renamed"
    __event_version__ = 2
    name: str


@upcast(Renamed, from_version=1)
def _name_from_title(payload: dict[str, object]) -> dict[str, object]:
    return {"name": payload["title"]}


class Thing(AggregateRoot, Base):
    __aggregate_type__ = "testing.Thing"
    name: str = ""

    @applies(Renamed)
    def _renamed(self, event: Renamed) -> None:
        self.name = event.name


def test_what_an_earlier_release_stored_is_given() -> None:
    given = scenario(Thing).given_stored("testing.Renamed", 1, {"title": "old"}).given(Renamed(name="new"))
    assert [each.event for each in given.events] == [Renamed(name="old"), Renamed(name="new")]
    assert given.aggregate.name == "new"
    assert scenario(Thing).given_stored("testing.Renamed", 1, {"title": "old"}).aggregate.name == "old"


def test_state_that_no_event_has_changed_is_found() -> None:
    outcome = scenario(Order).given(PLACED).when(lambda order: order.notes.append("b"))
    told = message_of(lambda: outcome.state(notes=[]))
    assert "notes: ['b'] in the object at hand, but [] when it is loaded" in told


def test_time_stands_still() -> None:
    moment = datetime(2031, 5, 1, tzinfo=UTC)
    outcome = scenario(Order, at=moment).given(PLACED).when(lambda order: order.note("a"))
    assert {each.occurred_at for each in outcome.events} == {moment}
    later = outcome.after(timedelta(days=1)).when(lambda order: order.note("b"))
    assert later.recorded[0].occurred_at == moment + timedelta(days=1)
    assert outcome.at(datetime(2040, 1, 1, tzinfo=UTC)).when(lambda order: order.note("c")).recorded[0].occurred_at.year == 2040


def test_frozen_holds_for_what_is_applied_in_the_block() -> None:
    with frozen() as moment:
        first = Order.place()
    with frozen():
        second = Order.place()
    assert (first.id, moment) == (second.id, datetime(2025, 1, 1, 12, tzinfo=UTC))
    assert Order.place().id != first.id


def test_the_context_is_recorded() -> None:
    with event_context(user="ann"):
        outcome = scenario(Order).when(lambda order: order.note("a"))
    assert outcome.recorded[0].metadata == {"user": "ann"}


# What is said of failures -------------------------------------------------------------------------------------------------------


def test_another_value_is_named_by_its_field_and_shown_in_its_place() -> None:
    outcome = scenario(Order).given(PLACED).when(lambda order: order.ship("post", "t-1"))
    assert message_of(lambda: outcome.then(OrderShipped(carrier="rail", tracking_number="t-1"))) == (
        "other events than expected\n"
        "  1. OrderShipped.carrier: expected 'rail', is 'post'\n"
        "\n"
        "(- expected, + recorded)\n"
        "  OrderShipped(\n"
        "-     carrier='rail',\n"
        "+     carrier='post',\n"
        "      tracking_number='t-1',\n"
        "  )\n"
        "\n"
        "given: OrderPlaced"
    )


def test_a_value_deep_inside_is_named_by_the_way_to_it() -> None:
    line = LINES[0].model_copy(update={"quantity": 3})
    told = message_of(lambda: scenario(Order).when(Order.place).then(PLACED.model_copy(update={"lines": (line, LINES[1])})))
    assert "1. OrderPlaced.lines.0.quantity: expected 3, is 2" in told
    assert re.search(r"^- +quantity=3,$", told, re.MULTILINE)
    assert re.search(r"^  +sku='bulb',$", told, re.MULTILINE)


def test_events_that_are_missing_or_too_many_are_shown() -> None:
    outcome = scenario(Order).when(lambda order: order.note("a"))
    told = message_of(lambda: outcome.then(NoteAdded(text="a"), OrderViewed()))
    assert "expected 2, recorded 1" in told
    assert "- OrderViewed()" in told
    told = message_of(outcome.then_nothing)
    assert "expected 0, recorded 1" in told
    assert "+ NoteAdded(" in told
    assert "1. NoteAdded: expected OrderViewed" in message_of(lambda: outcome.then(OrderViewed()))


def test_a_type_that_is_another_is_named() -> None:
    class Weighed(DomainEvent):
        __event_type__ = "testing.Weighed"
        weight: int | float

    class Scale(AggregateRoot, Base):
        __aggregate_type__ = "testing.Scale"
        __ignored_events__ = (Weighed,)

    outcome = scenario(Scale).when(lambda scale: scale.apply_event(Weighed(weight=1)))
    assert "1. Weighed.weight: expected 1.0, is 1" in message_of(lambda: outcome.then(Weighed(weight=1.0)))


def test_only_some_fields_may_matter() -> None:
    outcome = scenario(Order).when(Order.place)
    outcome.then(like(OrderPlaced, total=Decimal("43.3"), customer_id=ANY)).then(OrderPlaced).then(like(OrderPlaced))
    told = message_of(lambda: outcome.then(like(OrderPlaced, total=Decimal(1))))
    assert "1. OrderPlaced.total: expected Decimal('1'), is Decimal('43.30')" in told
    assert [line for line in told.splitlines() if line.startswith("- ")] == ["-     total=Decimal('1'),"]
    with pytest.raises(TypeError, match="OrderPlaced has no field 'amount'; it has: customer_id, lines, total"):
        like(OrderPlaced, amount=1)


def test_what_the_step_raised_is_raised_by_the_next_check() -> None:
    outcome = scenario(Order).given(PLACED, OrderPaid(payment_id="p-1")).when(lambda order: order.pay("p-2"))
    with pytest.raises(OrderAlreadyPaidError):
        outcome.then(OrderPaid(payment_id="p-2"))
    outcome = scenario(Order).given(PLACED, OrderPaid(payment_id="p-1")).when(lambda order: order.pay("p-2"))
    with pytest.raises(OrderAlreadyPaidError):
        outcome.when(lambda order: order.note("a"))


def test_an_error_that_is_none_or_another_is_told() -> None:
    outcome = scenario(Order).given(PLACED).when(lambda order: order.pay("p-1"))
    told = message_of(lambda: outcome.raises(OrderAlreadyPaidError))
    assert told == "expected OrderAlreadyPaidError to be raised, but nothing was; recorded: OrderPaid"
    refused = scenario(Account).when(lambda account: account.withdraw(5))
    assert "not NotEnoughMoney: there are only 0" in message_of(lambda: refused.raises(KeyError))
    assert "matches 'only 3'" in message_of(lambda: refused.raises(NotEnoughMoney, match="only 3"))
    assert isinstance(refused.error, NotEnoughMoney)


def test_an_error_that_nobody_looks_at_is_a_warning() -> None:
    outcome = scenario(Account).when(lambda account: account.withdraw(5))
    with pytest.warns(RuntimeWarning, match="NotEnoughMoney.*nothing was checked after it"):
        del outcome
        gc.collect()


def test_another_state_is_told_field_by_field() -> None:
    outcome = scenario(Order).given(PLACED).when(lambda order: order.pay("p-1"))
    told = message_of(lambda: outcome.state(payment_id="p-2", total=Decimal(1), status=OrderStatus.PAID))
    assert told.splitlines()[1:] == [
        "  payment_id: expected 'p-2', is 'p-1'",
        "  total: expected Decimal('1'), is Decimal('43.30')",
        "  after: OrderPlaced, OrderPaid",
    ]
    with pytest.raises(AttributeError, match="statsu"):
        outcome.state(statsu=1)


def test_what_is_no_action_is_refused() -> None:
    with pytest.raises(TypeError, match=r"an event goes to a process manager.*goes into given"):
        scenario(Order).when(PLACED)
    with pytest.raises(TypeError, match="a function of the aggregate, a command or an event, not 'pay'"):
        scenario(Order).when("pay")  # type: ignore[call-overload]


def test_a_method_that_would_have_to_be_awaited_is_refused() -> None:
    async def pay(order: Order) -> None:
        order.pay("p-1")

    outcome = scenario(Order).given(PLACED).when(pay)
    outcome.raises(TypeError, match="nothing of it has run")


# Handlers of commands -----------------------------------------------------------------------------------------------------------


def test_a_handler_changes_several_aggregates() -> None:
    given = scenario(Account, id=ONE).given(Deposited(amount=100)).given_elsewhere(Account, TWO, Opened(owner="bob"))
    outcome = given.when(Transfer(source=ONE, target=TWO, amount=30))
    outcome.then(Deposited(amount=30), Withdrawn(amount=30)).returns(70).state(balance=70)
    outcome.then_elsewhere(Account, TWO, Deposited(amount=30)).then_elsewhere(Account, ONE, Withdrawn(amount=30))


def test_what_a_handler_refuses_leaves_nothing() -> None:
    given = scenario(Account, id=ONE).given(Opened(owner="ann")).given_elsewhere(Account, TWO, Opened(owner="bob"))
    outcome = given.when(Transfer(source=ONE, target=TWO, amount=30))
    outcome.raises(NotEnoughMoney).then_nothing()
    assert outcome.when(lambda account: account.deposit(1)).aggregate.balance == 1


def test_what_a_handler_that_fails_has_scheduled_is_forgotten() -> None:
    outcome = scenario(Account).when(OpenAccount(owner=""))
    outcome.raises(NoOwner).then_nothing().after(timedelta(days=90)).expect_commands()


def test_an_aggregate_that_is_not_there() -> None:
    scenario(Account, id=ONE).when(CloseUnused(account_id=ONE)).raises(NoResultFound)


def test_a_handler_makes_an_aggregate_and_schedules_a_command() -> None:
    outcome = scenario(Account).when(OpenAccount(owner="ann"))
    outcome.then(Opened(owner="ann")).returns(outcome.aggregate.id).state(owner="ann")
    outcome.expect_commands().expect_commands(After(timedelta(days=30), CloseUnused(account_id=outcome.aggregate.id)))
    month_later = outcome.after(timedelta(days=30))
    month_later.then().expect_commands(like(CloseUnused, account_id=outcome.aggregate.id))
    month_later.when(*month_later.commands).then(Closed()).state(is_open=False)
    outcome.after(timedelta(days=29)).expect_commands()


def test_a_coroutine_function_is_run_to_its_end() -> None:
    given = scenario(Account, id=ONE).given(Deposited(amount=100))
    given.when(TransferSlowly(source=ONE, target=TWO, amount=30)).then(Withdrawn(amount=30)).expect_commands(Report())
    given.when(TransferSlowly(source=ONE, target=TWO, amount=300)).raises(NotEnoughMoney)


async def test_so_it_is_within_a_running_loop() -> None:
    await asyncio.sleep(0)
    test_a_coroutine_function_is_run_to_its_end()


def test_what_needs_a_database_says_so() -> None:
    scenario(Account).when(Report()).raises(NoDatabaseError, match="take the fixture eventsource_session")
    scenario(Account, id=ONE).given(Opened(owner="a")).when(Commit(account_id=ONE)).raises(HandlerTransactionError)


def test_a_command_without_a_handler_is_refused() -> None:
    class Unheard(Transfer):
        __command_type__ = "testing.Unheard"

    with pytest.raises(UnknownCommandError):
        scenario(Account).when(Unheard(source=ONE, target=TWO, amount=1))


def test_the_aggregates_of_a_handler_are_in_its_session_only_meanwhile() -> None:
    outcome = scenario(Account, id=ONE).given(Deposited(amount=100)).when(CloseUnused(account_id=ONE))
    assert object_session(outcome.aggregate) is None


def test_another_command_is_told() -> None:
    outcome = scenario(Account).when(OpenAccount(owner="ann"))
    later = outcome.after(timedelta(days=30))
    told = message_of(lambda: later.expect_commands(CloseUnused(account_id=ONE)))
    assert "other commands than expected" in told
    assert "1. CloseUnused.account_id: expected UUID('00000000-0000-0000-0000-000000000001'), is UUID(" in told
    told = message_of(lambda: outcome.expect_commands(After(timedelta(days=3), like(CloseUnused).model(account_id=ONE))))
    assert "1. CloseUnused: expected after 3 days, 0:00:00, was after 30 days, 0:00:00" in told
