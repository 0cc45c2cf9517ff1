"""The codec is a list of steps: one that joins changes what is stored, and undoes it when it is read."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from sa_eventsource import DomainEvent, upcast
from sa_eventsource.events import decode, encode
from sa_eventsource.events.codec import STEPS
from sa_eventsource.events.codec_steps import Step
from tests.bank import Withdrawn

if TYPE_CHECKING:
    from collections.abc import Iterator


class Confided(DomainEvent):
    __event_version__ = 2
    secret: str


@upcast(Confided, from_version=1)
def _rename(payload: dict[str, Any]) -> dict[str, Any]:
    return {"secret": payload["told"]}


def _hide(event: DomainEvent, text: str) -> str:
    assert isinstance(event, Confided)
    return json.dumps({"hidden": base64.b64encode(text.encode()).decode()})


def _show(payload: str | bytes) -> bytes:
    return base64.b64decode(json.loads(payload)["hidden"])


@pytest.fixture
def hiding() -> Iterator[None]:
    STEPS.join(
        Step(
            "hide",
            to_log=lambda event_class: _hide if event_class is Confided else None,
            from_log=lambda event_type, _version: _show if event_type == "Confided" else None,
        )
    )
    yield
    STEPS.leave("hide")


def test_the_steps_have_names() -> None:
    assert STEPS.names() == ["write", "validate", "upcast"]


@pytest.mark.usefixtures("hiding")
def test_a_step_that_joins_is_the_last_on_the_way_to_the_log_and_the_first_on_the_way_back() -> None:
    assert STEPS.names()[-1] == "hide"
    stored = encode(Confided(secret="x"))
    assert "secret" not in stored
    assert decode("Confided", 2, stored) == Confided(secret="x")
    older = _hide(Confided(secret="x"), '{"told": "y"}')
    assert decode("Confided", 1, older) == Confided(secret="y")


@pytest.mark.usefixtures("hiding")
def test_a_step_does_not_concern_other_classes() -> None:
    assert encode(Withdrawn(amount=1)) == '{"amount":1}'
    assert decode("bank.Withdrawn", 1, '{"amount":1}') == Withdrawn(amount=1)


def test_a_step_that_left_is_gone() -> None:
    assert encode(Confided(secret="x")) == '{"secret":"x"}'
