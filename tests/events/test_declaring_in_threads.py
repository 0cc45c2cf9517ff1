"""An event class may be declared, by a module that a request imports, while other threads read and write events."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sa_eventsource import DomainEvent, upcast
from sa_eventsource.events import decode, event_types, family, members, reading_steps, stored_types_of_family, upcasting
from sa_eventsource.events.codec_steps import Step, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Noted(DomainEvent):
    __event_type__ = "threads.Noted"
    __event_version__ = 2
    __former_types__ = ("threads.Remarked",)
    n: int = 1


@upcast(Noted, from_version=1)
def _numbered(payload: dict[str, Any]) -> dict[str, Any]:
    return {"n": 1} | payload


@pytest.fixture
def switching_often() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def declare() -> Iterator[Callable[[int], None]]:
    """A function that declares an event with an upcaster, to be forgotten after the test."""
    kept = [each.copy() for each in (event_types._classes, event_types._former, upcasting._upcasters)]

    def declare_one(number: int) -> None:
        name = f"Late{number}"
        body = {"__module__": __name__, "__event_version__": 2, "__former_types__": (f"Later{number}",)}
        upcast(type(name, (DomainEvent,), body), from_version=1)(_numbered)

    yield declare_one
    for registry, before in zip((event_types._classes, event_types._former, upcasting._upcasters), kept, strict=True):
        for name in registry.keys() - before.keys():  # type: ignore[attr-defined]
            del registry[name]  # type: ignore[attr-defined]
    event_types.changed()


@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize(
    "read",
    [
        lambda: decode("threads.Remarked", 1, "{}"),
        lambda: family(DomainEvent),
        lambda: members([DomainEvent]),
        lambda: stored_types_of_family(Noted),
        lambda: reading_steps(Noted),
    ],
    ids=["decode", "family", "members", "stored types", "reading steps"],
)
def test_others_go_on_while_classes_are_declared(read: Callable[[], object], declare: Callable[[int], None]) -> None:
    errors: list[Exception] = []
    is_done = threading.Event()

    def go_on() -> None:
        try:
            while not is_done.is_set():
                read()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=go_on) for _ in range(2)]
    for each in threads:
        each.start()
    for number in range(80):
        declare(number)
    is_done.set()
    for each in threads:
        each.join()
    assert errors == []


def test_what_was_made_before_a_change_is_not_kept_after_it() -> None:
    """The change comes, as from another thread, while the functions for a class and for a stored type are made."""
    made: list[str] = []

    def to_log(_event_class: type[DomainEvent]) -> Any:
        made.append("writer")
        event_types.changed()
        return lambda _event, _text: "written"

    def from_log(_event_type: str, _version: int) -> Any:
        made.append("reader")
        event_types.changed()
        return lambda payload: payload

    steps = Steps([Step("one", to_log, from_log)])
    for _ in range(2):
        assert steps.write(Noted()) == "written"
    for _ in range(2):
        assert steps.reader("threads.Noted", 2)("text") == "text"
    assert made == ["writer", "writer", "reader", "reader"]
