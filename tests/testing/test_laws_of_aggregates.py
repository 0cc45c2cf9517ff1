"""The laws of aggregates: each finds the mistake that was planted for it, and none is found where there is none."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import random
import sys
import time
import unittest
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from pydantic import Field, PlainSerializer
from sqlalchemy.orm import DeclarativeBase, object_session

from sa_eventsource import AggregateRoot, DeclarationError, DomainEvent, RecordedEvent, applies, upcast
from sa_eventsource.testing import aggregate_laws, called, events_of, histories_of
from sa_eventsource.testing.property_tests import values_of
from tests import orders, shop
from tests.processes import finish_forked
from tests.testing.bank import Account
from tests.testing.test_examples_and_projections import Everything

SETTINGS = settings(
    max_examples=25,
    stateful_step_count=8,
    deadline=None,
    database=None,
    derandomize=True,  # a mistake that is planted is found in each run, or in none
    phases=[Phase.generate],  # the shortest example is Hypothesis' affair
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


class Base(DeclarativeBase):
    pass


def check(laws: type[unittest.TestCase], **changed: Any) -> None:
    """Run laws as pytest does."""
    laws.settings = settings(SETTINGS, **changed)  # type: ignore[attr-defined]
    outcome = unittest.TestResult()
    laws("runTest").run(outcome)
    for _, told in [*outcome.errors, *outcome.failures]:
        raise AssertionError(told)


def broken(laws: type[unittest.TestCase]) -> str:
    with pytest.raises(AssertionError) as caught:
        check(laws)
    return str(caught.value)


class Happened(DomainEvent):
    __event_type__ = "laws.Happened"
    number: int


def aggregate_with(apply: Callable[[Any, Happened], None], **fields: Any) -> Any:
    """Declare an aggregate with one method for one event, under a name of its own."""
    name = f"Planted{next(_numbers)}"
    apply.__name__ = "_happened"

    def happen(self: Any, number: int) -> None:
        self.apply_event(Happened(number=number))

    body = {
        "__annotations__": {"seen": Any, **{each: type(value) for each, value in fields.items()}},
        "seen": None,
        **fields,
        "happen": happen,
        "_happened": applies(Happened)(apply),
        "__aggregate_type__": f"laws.{name}",
        "__module__": __name__,
    }
    return type(name, (AggregateRoot, Base), body)


_numbers = iter(range(1000))


def laws_of(apply: Callable[[Any, Happened], None], **options: Any) -> type[unittest.TestCase]:
    planted = aggregate_with(apply)
    return aggregate_laws(planted, commands=[planted.happen], **options)


# Mistakes that are planted ------------------------------------------------------------------------------------------------------


def _set(value: Callable[[Any, Happened], Any]) -> Callable[[Any, Happened], None]:
    def apply(self: Any, event: Happened) -> None:
        self.seen = value(self, event)

    return apply


def _with_new_id(self: Any, event: Happened) -> str:
    return str(uuid4())


ASKS = {
    "datetime.now": (lambda self, event: datetime.now(UTC), r"the clock \(datetime.now\)"),
    "date.today": (lambda self, event: date.today(), r"the clock \(date.today\)"),  # noqa: DTZ011
    "time": (lambda self, event: time.time() > 0, r"the clock \(time.time\)"),
    "random": (lambda self, event: random.randint(1, 6) > 0, r"chance \(random\)"),
    "uuid4": (lambda self, event: str(uuid4()) != "", r"chance \(os.urandom\)"),
    "session": (lambda self, event: object_session(self) is None, r"the session \(object_session\)"),
    "file": (lambda self, event: open(__file__).close(), r"a file \(open\)"),  # noqa: PTH123
}


@pytest.mark.parametrize("name", ASKS)
def test_a_method_that_asks_what_another_replay_would_get_another_answer_to(name: str) -> None:
    asked, told = ASKS[name]
    message = broken(laws_of(_set(asked)))
    assert __import__("re").search(rf"_happened\(\), for Happened, asks {told}", message), message
    assert "Ask before apply_event(), and put the answer into the event" in message


def test_a_method_that_raises() -> None:
    def apply(self: Any, event: Happened) -> None:
        if event.number > 1000:
            raise ValueError("too large")  # which is what a rule raises elsewhere

    assert "_happened() raised ValueError('too large'): it runs at every replay, and must not raise" in broken(laws_of(apply))


def test_a_method_that_remembers_outside_of_the_aggregate() -> None:
    counted: list[int] = []

    def apply(self: Any, event: Happened) -> None:
        counted.append(event.number)
        self.seen = len(counted)

    assert "seen: replaying the events gives another state than applying them has left" in broken(laws_of(apply))


def test_a_command_that_changes_state_without_an_event() -> None:
    class Order(shop.AnyOrder, Base):
        __aggregate_type__ = "laws.Order"

        def note_twice(self, text: str) -> None:
            self.note(text)
            self.notes.append(text)

    assert "Order.notes" in broken(aggregate_laws(Order, commands=[Order.note_twice]))


def test_state_that_does_not_survive_a_snapshot() -> None:
    class Thermometer(AggregateRoot, Base):
        __aggregate_type__ = "laws.Thermometer"
        __snapshot_frequency__ = 10
        reading: int | float | str = 0
        last: Annotated[int, PlainSerializer(lambda number: number // 10)] = 0

        def read(self, number: int) -> None:
            self.apply_event(Happened(number=number))

        @applies(Happened)
        def _happened(self, event: Happened) -> None:
            self.last = event.number

    assert "the state of Thermometer does not survive a snapshot" in broken(
        aggregate_laws(Thermometer, commands=[Thermometer.read])
    )
    check(aggregate_laws(Thermometer, commands=[Thermometer.read], snapshots=False))


def test_state_that_a_snapshot_leaves_half() -> None:
    class Lamp(AggregateRoot, Base):
        __aggregate_type__ = "laws.Lamp"
        __snapshot_frequency__ = 10
        count: int = 0

        def switch(self, number: int) -> None:
            self.apply_event(Happened(number=number))

        @applies(Happened)
        def _happened(self, event: Happened) -> None:
            hidden = vars(self).setdefault("_hidden", [])  # no state field: a snapshot knows nothing of it
            hidden.append(event.number)
            self.count = len(hidden)

    assert "Lamp.count: going on from a snapshot of version 1 gives another state" in broken(
        aggregate_laws(Lamp, commands=[Lamp.switch])
    )


def test_an_event_that_does_not_come_back() -> None:
    class Rounded(DomainEvent):
        __event_type__ = "laws.Rounded"
        price: Annotated[Decimal, PlainSerializer(round)]

    class Shelf(AggregateRoot, Base):
        __aggregate_type__ = "laws.Shelf"
        __ignored_events__ = (Rounded,)

        def price(self, whole: int) -> None:
            self.apply_event(Rounded(price=Decimal(whole)))

    message = broken(aggregate_laws(Shelf, commands=[Shelf.price]))
    assert "an event that can be made cannot be stored and read again: Rounded(price=Decimal(" in message
    check(aggregate_laws(Shelf, commands=[Shelf.price], events={Rounded: st.builds(Rounded, price=st.just(Decimal(1)))}))


def _versions(label: str, convert: Callable[[Any], dict[str, Any]]) -> Any:
    class Old(DomainEvent):
        __event_type__ = f"laws.{label}"
        title: str | None

    Old.__qualname__ = f"{label}Old"

    class New(DomainEvent):
        __event_type__ = f"laws.{label}"
        __event_version__ = 2
        name: str
        key: UUID = Field(default_factory=uuid4)

        @classmethod
        def from_v1(cls, old: Old) -> New:
            return New(**convert(old))

    class OwnBase(DeclarativeBase):
        pass

    class Page(AggregateRoot, OwnBase):
        __aggregate_type__ = f"laws.Page{label}"
        name: str = ""

        def rename(self, name: str) -> None:
            self.apply_event(New(name=name))

        @applies(New)
        def _renamed(self, event: New) -> None:
            self.name = event.name

    return Page


def test_an_upcaster_that_raises() -> None:
    page = _versions("Raising", lambda old: {"name": old.title.strip(), "key": UUID(int=0)})
    message = broken(aggregate_laws(page, commands=[page.rename]))
    assert 'a stored laws.Raising of version 1, {"title":null}, cannot be read' in message
    assert "NoneType" in message
    sound = _versions("Sound", lambda old: {"name": old.title or "", "key": UUID(int=0)})
    check(aggregate_laws(sound, commands=[sound.rename]))


def test_an_upcaster_that_makes_another_event_each_time() -> None:
    page = _versions("Changing", lambda old: {"name": old.title or ""})
    message = broken(aggregate_laws(page, commands=[page.rename]))
    assert "is read as another event each time: key is UUID(" in message


class Weighed(DomainEvent):
    __event_type__ = "laws.Weighed"
    __event_version__ = 2
    grams: int


@upcast(Weighed, from_version=1)
def _grams(payload: dict[str, Any]) -> dict[str, Any]:
    return {"grams": payload["kilograms"] * 1000}


class Scale(AggregateRoot, Base):
    __aggregate_type__ = "laws.Scale"
    __ignored_events__ = (Weighed,)

    def weigh(self, grams: int) -> None:
        self.apply_event(Weighed(grams=grams))


def test_payloads_of_an_upcaster_that_is_a_function_are_what_the_test_says() -> None:
    with pytest.raises(DeclarationError, match=r"Weighed has an upcaster from version 1.*older=\{\(Weighed, 1\)"):
        aggregate_laws(Scale, commands=[Scale.weigh])
    check(aggregate_laws(Scale, commands=[Scale.weigh], older={(Weighed, 1): None}))
    payloads = st.fixed_dictionaries({"kilograms": st.integers()})
    check(aggregate_laws(Scale, commands=[Scale.weigh], older={(Weighed, 1): payloads}))
    without = st.fixed_dictionaries({}, optional={"kilograms": st.integers()})
    assert "KeyError('kilograms')" in broken(aggregate_laws(Scale, commands=[Scale.weigh], older={(Weighed, 1): without}))


def test_an_error_that_is_no_refusal() -> None:
    def buy(self: Any, number: int) -> None:
        raise KeyError(number)

    planted = aggregate_with(_set(lambda self, event: event.number))
    planted.buy = buy
    message = broken(aggregate_laws(planted, commands=[planted.happen, planted.buy]))
    assert "buy() raised KeyError(" in message
    assert "If a rule refuses the command so, write refusals=(KeyError, ...)" in message
    check(aggregate_laws(planted, commands=[planted.happen, planted.buy], refusals=KeyError))


# No false alarm -----------------------------------------------------------------------------------------------------------------


def test_a_log_line_is_no_look_at_the_clock() -> None:
    def apply(self: Any, event: Happened) -> None:
        logging.getLogger(__name__).warning("happened: %s", event)
        self.seen = random.Random(event.number).random()  # which is the same in each replay

    check(laws_of(apply))


class Plain:
    """Has no comparison of its own."""

    def __init__(self, number: int) -> None:
        self.number = number


def test_objects_without_a_comparison_are_compared_by_what_they_hold() -> None:
    check(laws_of(_set(lambda self, event: Plain(event.number))))


def test_aggregates_of_our_own_tests_keep_the_laws() -> None:
    order = orders.Order
    refusals = (shop.OrderAlreadyPaidError,)
    check(aggregate_laws(order, commands=[order.place, order.pay, order.ship, order.note], refusals=refusals, snapshots=True))
    check(aggregate_laws(order, commands=[order.note, order.ship]))
    check(aggregate_laws(Account, commands=[Account.open, Account.deposit, Account.withdraw], snapshots=True))


EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def imported(name: str) -> Any:
    """Import a module of the examples, in a process that ends with the test: their events have the same names."""
    sys.path.insert(0, str(EXAMPLES))
    return importlib.import_module(name)


def check_shop() -> None:
    shop = imported("shop.ordering")
    place = called(shop.Order.place, lines=st.lists(values_of(shop.Line), min_size=1, max_size=2).map(tuple))
    check(aggregate_laws(shop.Order, commands=[place, shop.Order.pay, shop.Order.cancel_if_unpaid], snapshots=True))


def check_story() -> None:
    story = imported("order_story")
    order = story.Order
    commands = [
        called(order.place, lines=st.lists(values_of(story.Line), max_size=2)),
        order.pay,
        order.ship,
        order.note,
        order.scan,
        order.deliver,
    ]
    check(aggregate_laws(order, commands=commands, refusals=story.WrongStatusError))


def check_loans() -> None:
    loans = imported("loan_applications")
    steps = (
        "partly_submit preaccept accept finalize approve register activate decline cancel select_offer create_offer send_offer "
        "receive_offer accept_offer decline_offer cancel_offer schedule_work start_work complete_work"
    )
    moments = values_of(datetime)
    submit = called(
        loans.LoanApplication.submit,
        application_id=st.uuids().map(str),
        amount=st.integers(-5, 100),
        registered_at=moments,
        at=moments,
    )
    methods = [getattr(loans.LoanApplication, each) for each in steps.split()]
    work, employee = st.sampled_from(loans.Work), st.none() | st.integers(1, 3)
    arguments = {"at": moments, "work": work, "employee": employee}
    commands = [
        called(each, **{name: arguments[name] for name in list(inspect.signature(each).parameters)[1:]}) for each in methods
    ]
    laws = aggregate_laws(loans.LoanApplication, commands=[submit, *commands], refusals=loans.ImpossibleStepError, snapshots=True)
    check(laws, stateful_step_count=30)


@pytest.mark.parametrize("keeps_laws", [check_shop, check_story, check_loans], ids=lambda each: each.__name__)
def test_the_examples_keep_the_laws(keeps_laws: Callable[[], None], tmp_path: Path) -> None:
    done = finish_forked(keeps_laws, folder=tmp_path, environment=os.environ)
    assert done.returncode == 0, done.stderr


# Strategies ---------------------------------------------------------------------------------------------------------------------


@given(events_of(orders.Order))
@settings(SETTINGS, max_examples=60)
def test_events_of_an_aggregate_are_those_that_it_takes(event: DomainEvent) -> None:
    orders.Order().apply_event(event)


class Wide(AggregateRoot, Base):
    __aggregate_type__ = "laws.Wide"
    __ignored_events__ = (Everything,)


@given(events_of(Wide))
@settings(SETTINGS, max_examples=40)
def test_fields_of_every_kind_are_drawn_as_a_log_can_store_them(event: DomainEvent) -> None:
    Wide().apply_event(event)


@given(histories_of(Account, commands=[Account.open, Account.deposit, Account.withdraw]))
@settings(SETTINGS, max_examples=40)
def test_histories_are_those_that_commands_lead_to(history: list[RecordedEvent[Any]]) -> None:
    balances: dict[str, int] = {}
    versions: dict[str, int] = {}
    for number, each in enumerate(history, 1):
        versions[each.aggregate_id] = versions.get(each.aggregate_id, 0) + 1
        assert (each.position, each.version) == (number, versions[each.aggregate_id])
        amount = getattr(each.event, "amount", 0)
        balances[each.aggregate_id] = balances.get(each.aggregate_id, 0) + (
            -amount if type(each.event).__name__ == "Withdrawn" else amount
        )
        assert type(each.event).__name__ != "Withdrawn" or amount <= balances[each.aggregate_id] + amount
    assert len(versions) <= 3
    assert [each.occurred_at for each in history] == sorted(each.occurred_at for each in history)


def test_a_history_has_several_streams() -> None:
    found = find(
        histories_of(Account, commands=[Account.open, Account.deposit]),
        lambda history: len({each.aggregate_id for each in history}) == 3,
        settings=settings(SETTINGS, max_examples=500),
    )
    assert len(found) >= 3


def test_what_nothing_says_is_asked_for() -> None:
    def unannotated(self: Any, number) -> None:  # type: ignore[no-untyped-def]
        pass

    with pytest.raises(TypeError, match=r"nothing says what number is; annotate it, or write called\(..., number=st"):
        called(unannotated)
    with pytest.raises(TypeError, match="pay has no parameter 'amount'; it has: payment_id"):
        called(orders.Order.pay, amount=st.integers())
    with pytest.raises(TypeError, match="not 'pay'"):
        called("pay")  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match=r"commands=\[Order.place, Order.pay\]"):
        aggregate_laws(orders.Order, commands=[])
