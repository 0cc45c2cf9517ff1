"""Names and versions of events, and reading those of older shapes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sa_eventsource import DeclarationError, DomainEvent, DuplicateEventTypeError, EventDecodeError, upcast
from sa_eventsource.events import decode, encode, stored_types


class Renamed(DomainEvent):
    __event_type__ = "order.renamed"
    __former_types__ = ("OrderRenamedOld",)

    name: str


def test_the_stored_name_is_the_class_name_or_the_declared_one() -> None:
    class Plain(DomainEvent):
        pass

    assert (Plain.__event_type__, Plain.__event_version__) == ("Plain", 1)
    assert (Renamed.__event_type__, stored_types(Renamed)) == ("order.renamed", ("order.renamed", "OrderRenamedOld"))


def test_a_former_name_is_read_as_the_present_class() -> None:
    assert decode("OrderRenamedOld", 1, encode(Renamed(name="x"))) == Renamed(name="x")


def test_name_and_version_are_not_inherited() -> None:
    class Child(Renamed):
        more: int = 0

    assert Child.__event_type__ == "Child"
    assert not Child.__former_types__


def test_an_abstract_base_is_no_event() -> None:
    class Common(DomainEvent):
        __abstract__ = True
        tenant: str

    class Concrete(Common):
        pass

    assert decode("Concrete", 1, '{"tenant": "t"}') == Concrete(tenant="t")
    with pytest.raises(LookupError):
        decode("Common", 1, '{"tenant": "t"}')


def test_two_classes_of_one_name_are_refused_and_both_are_named() -> None:
    class Twice(DomainEvent):
        pass

    def again() -> None:
        class Other(DomainEvent):
            __event_type__ = "Twice"

    with pytest.raises(DuplicateEventTypeError, match="Other") as caught:
        again()
    assert caught.value.event_type == "Twice"
    assert caught.value.existing.endswith("Twice")


def test_a_class_made_again_at_the_same_place_replaces_the_first() -> None:
    def make(default: int) -> type[DomainEvent]:
        class Reloaded(DomainEvent):
            n: int = default

        return Reloaded

    make(1)
    decode("Reloaded", 1, "{}")
    second = make(2)
    assert decode("Reloaded", 1, "{}") == second()


def test_a_former_name_that_another_class_has_is_refused() -> None:
    class Taken(DomainEvent):
        pass

    def claim() -> None:
        class Claims(DomainEvent):
            __former_types__ = ("Taken",)

    with pytest.raises(DuplicateEventTypeError):
        claim()


@pytest.mark.parametrize("version", [0, 32768, True, "1"])
def test_an_impossible_version_is_refused(version: Any) -> None:
    with pytest.raises(DeclarationError, match="__event_version__"):
        type("BadVersion", (DomainEvent,), {"__event_version__": version, "__module__": __name__, "__qualname__": "BadVersion"})


@pytest.mark.parametrize("name", ["", "x" * 256, "a\x00b"])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="event type"):
        type("BadName", (DomainEvent,), {"__event_type__": name, "__module__": __name__, "__qualname__": "BadName"})


class PriceSetV2(DomainEvent):
    __event_type__ = "PriceSet"
    __event_version__ = 2

    amount: int


class PriceSet(DomainEvent):
    __event_version__ = 3
    __former_types__ = ("PriceChanged",)

    amount: Decimal
    currency: str

    @classmethod
    def from_v2(cls, old: PriceSetV2) -> PriceSet:
        return cls(amount=Decimal(old.amount), currency="EUR")


@upcast(PriceSet, from_version=1)
def _name_the_amount(payload: dict[str, Any]) -> dict[str, Any]:
    return {"amount": payload["price"]}


@pytest.mark.parametrize("event_type", ["PriceSet", "PriceChanged"])
@pytest.mark.parametrize(
    ("version", "payload"), [(1, '{"price": 3}'), (2, '{"amount": 3}'), (3, '{"amount": "3", "currency": "EUR"}')]
)
def test_three_generations_are_read_as_the_present_one(event_type: str, version: int, payload: str) -> None:
    assert decode(event_type, version, payload) == PriceSet(amount=Decimal(3), currency="EUR")


def test_dict_functions_are_chained() -> None:
    class Chained(DomainEvent):
        __event_version__ = 3
        log: list[int]

    @upcast("Chained", from_version=1)
    def _one(payload: dict[str, Any]) -> dict[str, Any]:
        return {"log": [*payload["log"], 1]}

    @upcast(Chained, from_version=2)
    def _two(payload: dict[str, Any]) -> dict[str, Any]:
        return {"log": [*payload["log"], 2]}

    assert decode("Chained", 1, '{"log": [0]}') == Chained(log=[0, 1, 2])


def test_a_missing_step_says_what_to_write() -> None:
    class Gap(DomainEvent):
        __event_version__ = 2

    with pytest.raises(EventDecodeError, match=r"@upcast\(Gap, from_version=1\)"):
        decode("Gap", 1, "{}")


def test_a_failing_step_is_named() -> None:
    with pytest.raises(EventDecodeError, match="_name_the_amount") as caught:
        decode("PriceSet", 1, '{"other": 1}')
    assert isinstance(caught.value.__cause__, EventDecodeError)


def test_a_version_of_newer_code_is_said_to_be_one() -> None:
    with pytest.raises(EventDecodeError, match="newer code"):
        decode("PriceSet", 4, "{}")


def test_two_functions_for_one_step_are_refused() -> None:
    class Stepped(DomainEvent):
        __event_version__ = 2

    @upcast(Stepped, from_version=1)
    def _first(payload: dict[str, Any]) -> dict[str, Any]:
        return payload

    with pytest.raises(DeclarationError, match="two upcasters"):

        @upcast(Stepped, from_version=1)
        def _second(payload: dict[str, Any]) -> dict[str, Any]:
            return payload

    with pytest.raises(DeclarationError, match="count from 1"):
        upcast(Stepped, from_version=0)


def test_an_upcaster_that_comes_late_is_used() -> None:
    class Late(DomainEvent):
        __event_version__ = 2
        n: int

    with pytest.raises(EventDecodeError):
        decode("Late", 1, "{}")

    @upcast(Late, from_version=1)
    def _add(_payload: dict[str, Any]) -> dict[str, Any]:
        return {"n": 7}

    assert decode("Late", 1, "{}") == Late(n=7)


@pytest.mark.parametrize("given", [None, [{"n": 1}], "{}", 7])
def test_an_upcaster_that_returns_no_payload_is_named_with_type_and_version(given: Any) -> None:
    class Forgetful(DomainEvent):
        __event_version__ = 2
        n: int = 0

    @upcast(Forgetful, from_version=1)
    def _forgets(_payload: dict[str, Any]) -> Any:
        return given

    with pytest.raises(EventDecodeError, match=r"_forgets returned") as caught:
        decode("Forgetful", 1, "{}")
    assert (caught.value.event_type, caught.value.event_version) == ("Forgetful", 1)
    assert ("return statement" in str(caught.value)) is (given is None)


def test_a_class_method_that_returns_no_event_is_named() -> None:
    class ShapeV1(DomainEvent):
        __event_type__ = "Shape"

    class Shape(DomainEvent):
        __event_version__ = 2

        @classmethod
        def from_v1(cls, old: ShapeV1) -> Any:
            """Forget to return."""

    with pytest.raises(EventDecodeError, match=r"from_v1 returned None instead of a Shape"):
        decode("Shape", 1, "{}")


def test_an_upcaster_may_give_values_that_json_writes_and_is_told_of_others() -> None:
    class Priced(DomainEvent):
        __event_version__ = 2
        amount: Decimal
        other: Any = None

    @upcast(Priced, from_version=1)
    def _price(payload: dict[str, Any]) -> dict[str, Any]:
        return {"amount": Decimal("1.50"), "other": object() if "bad" in payload else None}

    assert decode("Priced", 1, "{}") == Priced(amount=Decimal("1.5"))
    with pytest.raises(EventDecodeError, match="cannot be written as JSON"):
        decode("Priced", 1, '{"bad": 1}')
