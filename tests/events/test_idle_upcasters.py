"""An upcaster that would never run is refused when the first event of its type is written or read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sa_eventsource import DeclarationError, DomainEvent, upcast
from sa_eventsource.events import decode, encode


def _euros(payload: dict[str, Any]) -> dict[str, Any]:
    return {"amount": str(Decimal(payload["amount"]) / 100)}


def _event(name: str, version: int, **body: Any) -> Any:
    annotations = {"__annotations__": {"amount": Decimal}}
    return type(
        "Paid", (DomainEvent,), {"__module__": name, "__event_type__": name, "__event_version__": version, **annotations, **body}
    )


@pytest.mark.parametrize(("version", "from_version"), [(1, 1), (1, 2), (2, 2), (3, 7)])
@pytest.mark.parametrize("order", ["class first", "upcaster first"])
def test_an_upcaster_from_the_present_version_is_refused_at_first_use(order: str, version: int, from_version: int) -> None:
    name = f"idle.{order}.{version}.{from_version}"
    if order == "class first":
        event_class = _event(name, version)
        upcast(event_class, from_version=from_version)(_euros)
    else:
        upcast(name, from_version=from_version)(_euros)
        event_class = _event(name, version)
    words = rf"from_version={from_version}.*never runs.*version {version}\. Write __event_version__ = {from_version + 1} in Paid"
    with pytest.raises(DeclarationError, match=words):
        encode(event_class(amount=Decimal(1)))
    with pytest.raises(DeclarationError, match=words):
        decode(name, version, '{"amount": 1250}')


def test_one_that_becomes_right_by_a_later_class_is_taken() -> None:
    """The class of the old version may stand first, and the upcaster be named after it."""
    name = "idle.later"
    old = _event(name, 1, __qualname__="Old")
    upcast(old, from_version=1)(_euros)
    new = _event(name, 2)
    assert decode(name, 1, '{"amount": 1250}') == new(amount=Decimal("12.5"))
    assert decode(name, 2, encode(new(amount=Decimal(3)))) == new(amount=Decimal(3))


def test_one_under_a_former_name_is_refused() -> None:
    event_class = _event("idle.named", 1, __former_types__=("idle.named before",))
    upcast("idle.named before", from_version=1)(_euros)
    with pytest.raises(DeclarationError, match=r"'idle.named before'.*never runs"):
        encode(event_class(amount=Decimal(1)))


def test_a_method_that_takes_the_present_version_is_refused() -> None:
    def from_version(cls: Any, old: Any) -> Any:
        return cls(amount=old.amount)

    method = classmethod(from_version)
    assert encode(_event("idle.method", 2, from_v1=method)(amount=Decimal(1)))
    with pytest.raises(DeclarationError, match=r"Paid\.from_v2\(\) never runs"):
        encode(_event("idle.method of the present", 2, from_v2=method)(amount=Decimal(1)))


def test_a_method_that_is_inherited_may_take_any_version() -> None:
    """An event that inherits from another one has versions of its own."""

    class Sent(DomainEvent):
        __event_type__ = "idle.Sent"
        __event_version__ = 2

        @classmethod
        def from_v1(cls, old: Any) -> Sent:
            return cls()

    class SentByAir(Sent):
        __event_type__ = "idle.SentByAir"

    assert decode("idle.SentByAir", 1, encode(SentByAir())) == SentByAir()


@pytest.mark.parametrize("from_version", [0, -1, "1", 1.0, True, None])
def test_a_version_that_is_no_number_from_1_on_is_refused(from_version: Any) -> None:
    with pytest.raises(DeclarationError, match="count from 1"):
        upcast("idle.number", from_version=from_version)
