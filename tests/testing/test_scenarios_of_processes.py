"""Scenarios of process managers: events come, commands and events of its own follow, some after a time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sa_eventsource import After, UnhandledEventError
from sa_eventsource.testing import like, scenario
from tests.process_managers.fulfilment import (
    PLACED,
    CancelOrder,
    Fulfilment,
    FulfilmentBegun,
    FulfilmentEnded,
    FulfilmentPaid,
    GiveUpWaiting,
    OutOfStock,
    PaymentOverdue,
    PaymentReceived,
    Refund,
    RequestPayment,
    Ship,
)
from tests.shop import OrderShipped

BEGUN = scenario(Fulfilment, id="o-1").given(PLACED)
SHIPPED = OrderShipped(carrier="post", tracking_number="t-1")


def test_what_follows_from_an_event() -> None:
    outcome = scenario(Fulfilment, id="o-1").when(PLACED)
    outcome.then(FulfilmentBegun()).expect_commands(RequestPayment(order_id="o-1")).state(stage="waiting for payment", id="o-1")
    outcome.expect_commands(RequestPayment(order_id="o-1"), After(timedelta(minutes=30), GiveUpWaiting(order_id="o-1")))


def test_the_process_of_an_event_is_what_the_event_says() -> None:
    outcome = scenario(Fulfilment).when(PaymentReceived(order_id="o-9"))
    outcome.then_elsewhere(Fulfilment, "o-9").expect_commands(Refund(order_id="o-9")).state(id="o-9")
    with pytest.raises(ValueError, match=r"PaymentReceived is for Fulfilment 'o-2', and the scenario is about 'o-1'"):
        BEGUN.when(PaymentReceived(order_id="o-2")).then_nothing()
    BEGUN.when(PaymentReceived(order_id=None)).then_nothing()


def test_what_was_reacted_to_is_given() -> None:
    outcome = BEGUN.when(PaymentReceived(order_id="o-1"))
    outcome.then(FulfilmentPaid()).expect_commands(Ship(order_id="o-1"))
    BEGUN.given(FulfilmentPaid()).when(PaymentReceived(order_id="o-1")).then().expect_commands(Refund(order_id="o-1"))


def test_what_was_put_off_comes_due() -> None:
    BEGUN.after(timedelta(minutes=29)).expect_commands()
    late = BEGUN.after(timedelta(minutes=30)).expect_commands(GiveUpWaiting(order_id="o-1"))
    late.then().after(timedelta(minutes=30)).expect_commands()
    late.when(PaymentReceived(order_id="o-1")).then(FulfilmentPaid())


def test_the_handler_of_a_command_that_comes_due_is_tested_in_the_same_scenario() -> None:
    late = BEGUN.after(timedelta(minutes=30))
    late.when(*late.commands).then(PaymentOverdue()).state(stage="given up")
    late.given(PaymentOverdue()).when(PaymentReceived(order_id="o-1")).expect_commands(Refund(order_id="o-1"))


def test_it_reacts_to_an_event_of_its_own() -> None:
    outcome = BEGUN.when(PaymentOverdue())
    outcome.then().expect_commands(CancelOrder(order_id="o-1", reason="not paid in time")).state(stage="given up")


def test_several_commands_are_compared_in_their_order() -> None:
    outcome = BEGUN.when(OutOfStock(order_id="o-1")).then(FulfilmentEnded())
    outcome.expect_commands(Refund, like(CancelOrder, reason="sold out"))
    with pytest.raises(AssertionError, match=r"1. Refund: expected CancelOrder(?s:.*)2. CancelOrder: expected Refund"):
        outcome.expect_commands(CancelOrder, Refund)


def test_what_does_not_concern_it_is_refused() -> None:
    BEGUN.when(SHIPPED).raises(UnhandledEventError)
    with pytest.raises(UnhandledEventError):
        scenario(Fulfilment).given(SHIPPED)


def test_time_goes_forward() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        BEGUN.after(timedelta(minutes=-1))
    with pytest.raises(TypeError, match="a timedelta"):
        BEGUN.after(30)  # type: ignore[arg-type]
