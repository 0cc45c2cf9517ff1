"""What a test with a mistake in it is told: what is wrong, and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from sa_eventsource import (
    After,
    AggregateRoot,
    Command,
    DeclarationError,
    DomainEvent,
    EventSourceOptions,
    ProcessManager,
    ReadModel,
    UnhandledEventError,
    command_handler,
    map_from_event,
    reacts,
)
from sa_eventsource.testing import scenario


class Base(DeclarativeBase):
    __eventsource__ = EventSourceOptions(commands="commands")


class Line(BaseModel):
    sku: str
    price: Decimal
    tags: list[str] = []


class Billed(DomainEvent):
    __event_type__ = "mistakes.Billed"
    lines: list[Line]
    due: datetime
    limits: dict[str, int] = {}


class Paid(DomainEvent):
    __event_type__ = "mistakes.Paid"


class Bill(AggregateRoot, Base):
    __aggregate_type__ = "mistakes.Bill"
    __ignored_events__ = (Billed, Paid)


class Bills(ReadModel, Base):
    __projection_name__ = "mistakes.bills"
    id: Mapped[str]
    due: Mapped[datetime] = map_from_event(Billed)


class Remind(Command[None]):
    __command_type__ = "mistakes.Remind"
    bill_id: str


class Reminding(ProcessManager, Base):
    __aggregate_type__ = "mistakes.Reminding"

    @reacts(Billed)
    def on_billed(self, event: Billed) -> After:
        return After(timedelta(days=14), Remind(bill_id=self.id))


@command_handler(Remind)
def remind(command: Remind, session: Session) -> None:
    session.get_one(Bill, command.bill_id)


HERE = datetime(2025, 6, 1, 12, tzinfo=timezone(timedelta(hours=2)))
TEA = Line(sku="tea", price=Decimal("5.00"), tags=["hot", "green"])
CUP = Line(sku="cup", price=Decimal("7.50"))


def billed(*lines: Line, **fields: Any) -> Billed:
    return Billed(**{"lines": list(lines), "due": HERE, **fields})


def message_of(check: Callable[[], object], kind: type[Exception] = AssertionError) -> str:
    with pytest.raises(kind) as caught:
        check()
    return str(caught.value)


def test_all_fields_that_differ_are_named_and_only_these_are_marked() -> None:
    outcome = scenario(Bill).when(lambda bill: bill.apply_event(billed(TEA, CUP, limits={"a": 1})))
    other = Line(sku="tea", price=Decimal("5.01"), tags=["hot", "black"])
    wanted = billed(other, Line(sku="cup", price=Decimal("7.5")), limits={"a": 2})
    message = message_of(lambda: outcome.then(wanted))
    head, diff = message.split("\n\n", 1)
    assert head.splitlines()[1:] == [
        "  1. Billed.lines.0.price: expected Decimal('5.01'), is Decimal('5.00')",
        "  1. Billed.lines.0.tags.1: expected 'black', is 'green'",
        "  1. Billed.limits.a: expected 2, is 1",
    ]
    assert [line.split() for line in diff.splitlines() if line.startswith(("+", "-"))] == [
        ["-", "price=Decimal('5.01'),"],
        ["+", "price=Decimal('5.00'),"],
        ["-", "tags=['hot',", "'black'],"],
        ["+", "tags=['hot',", "'green'],"],
        ["-", "limits={'a':", "2},"],
        ["+", "limits={'a':", "1},"],
    ]


def test_a_list_of_another_length_is_named_as_a_whole() -> None:
    outcome = scenario(Bill).when(lambda bill: bill.apply_event(billed(TEA)))
    assert "1. Billed.lines: expected [" in message_of(lambda: outcome.then(billed(TEA, CUP)))


def test_the_same_moment_in_another_zone_is_told() -> None:
    outcome = scenario(Bill).when(lambda bill: bill.apply_event(billed(TEA)))
    assert "(the same moment in another time zone)" in message_of(lambda: outcome.then(billed(TEA, due=HERE.astimezone(UTC))))


@pytest.mark.parametrize(
    ("of", "advice"),
    [
        (Bill(id="b-1"), r"scenario\(\) takes a class, as in scenario\(Bill, id=\.\.\.\)"),
        (Bills, r"Bills is a read model: projected\(Bills, \[\.\.\.\]\) gives its rows"),
        (Paid, "Paid is an event: scenario.* takes the aggregate"),
        (int, "int is not a mapped aggregate"),
    ],
)
def test_what_is_no_aggregate_is_refused_with_what_to_write(of: Any, advice: str) -> None:
    with pytest.raises(DeclarationError, match=advice):
        scenario(of)


def test_a_list_of_events_is_to_be_spread() -> None:
    wrong: Any = [Paid()]
    assert "write given(*events)" in message_of(lambda: scenario(Bill).given(wrong), TypeError)
    outcome = scenario(Bill).when(lambda bill: bill.apply_event(Paid()))
    assert "write then(*events)" in message_of(lambda: outcome.then([Paid()]), TypeError)
    assert "write expect_commands(*commands)" in message_of(lambda: outcome.expect_commands([]), TypeError)


def test_a_command_is_not_given() -> None:
    wrong: Any = Remind(bill_id="1")
    message = message_of(lambda: scenario(Bill).given(wrong), TypeError)
    assert message == "given() takes events that have happened, and Remind is not an event; a command goes into when()"


def test_a_handler_that_finds_no_aggregate_is_told_which_there_are() -> None:
    given = scenario(Bill).given(Paid())
    with pytest.raises(NoResultFound, match=r"Bill 'b-7' has no events in this scenario.*there is mistakes.Bill '1'") as caught:
        given.when(Remind(bill_id="b-7")).then_nothing()
    assert "No row was found when one was required" in str(caught.value)
    with pytest.raises(NoResultFound, match="there is none"):
        scenario(Bill).when(Remind(bill_id="b-7")).then_nothing()


def test_a_command_that_was_put_off_is_mentioned_where_it_was_expected_at_once() -> None:
    outcome = scenario(Reminding, id="1").when(billed(TEA))
    message = message_of(lambda: outcome.expect_commands(Remind(bill_id="1")))
    assert "put off: Remind, by 14 days, 0:00:00; after(...) has it sent, and After(...) expects it" in message
    assert "put off" not in message_of(lambda: outcome.expect_commands(After(timedelta(days=1), Remind(bill_id="1"))))


def test_an_event_that_a_process_manager_does_not_take_is_told_so() -> None:
    with pytest.raises(UnhandledEventError, match=r"Reminding has neither a @reacts\(Paid\) method nor an @applies\(Paid\) one"):
        scenario(Reminding).when(Paid()).then_nothing()
