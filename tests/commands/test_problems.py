"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import NoResultFound, OperationalError

from sa_eventsource import (
    AggregateNotFoundError,
    CommandDiscardedError,
    CommandIdConflictError,
    CommandPayloadError,
    Commands,
    ConcurrencyError,
    DomainRuleError,
    EventAlreadyAppendedError,
    EventSourceError,
    ProblemDetails,
    ReadModelLagError,
    UnknownCommandError,
    problem_details,
)
from tests.commands.ordering import Annotate, Base, CancelOrder, OrderIsCancelled, PlaceOrder


class _Deadlock(Exception):
    sqlstate = "40P01"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConcurrencyError("Order", "1", expected_version=1, actual_version=2), 409),
        (OperationalError("INSERT", {}, _Deadlock()), 409),
        (EventAlreadyAppendedError([UUID(int=1)], "Order", "1"), 409),
        (AggregateNotFoundError("Order", "1"), 404),
        (NoResultFound("none"), 404),
        (DomainRuleError("no"), 422),
        (CommandIdConflictError(UUID(int=1), command_type="A", given_type="B"), 422),
        (CommandDiscardedError(UUID(int=1), "A"), 409),
        (CommandPayloadError("A", "command", "x", "it is infinite"), 422),
        (CommandPayloadError("A", "result", "", "it is an aggregate"), 500),
        (ReadModelLagError("cakes", 5.0, 1, 1.0), 503),
        (UnknownCommandError("A", []), 500),
        (EventSourceError("secret"), 500),
        (ValueError("secret"), 500),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else str(each),
)
def test_each_error_has_a_status(error: Exception, status: int) -> None:
    problem = problem_details(error)
    assert problem.status == problem.body["status"] == status
    assert json.loads(json.dumps(problem.body)) == problem.body


@pytest.mark.parametrize("error", [ValueError("secret"), OperationalError("INSERT secret", {}, _Deadlock("secret"))])
def test_what_is_nobody_s_business_is_not_told(error: Exception) -> None:
    assert "secret" not in json.dumps(problem_details(error).body)


def test_a_rule_tells_its_kind_its_message_and_its_fields() -> None:
    problem = problem_details(OrderIsCancelled(UUID(int=7)))
    assert problem.body == {
        "type": "https://shop.example/problems/order-is-cancelled",
        "title": problem.title,
        "status": 422,
        "detail": f"order {UUID(int=7)} is cancelled",
        "order_id": str(UUID(int=7)),
    }


def test_fields_do_not_hide_the_standard_members() -> None:
    class Odd(DomainRuleError):
        def __init__(self) -> None:
            self.status = 200
            self._private = 1
            self.unserializable = object()
            super().__init__("odd")

    problem = problem_details(Odd())
    assert problem.body == {"type": "about:blank", "title": problem.title, "status": 422, "detail": "odd"}


class _Unwritable(Exception):
    def __str__(self) -> str:
        raise ValueError


class _Strange:
    """Which Pydantic cannot even look at."""

    @property
    def __dataclass_fields__(self) -> Any:
        raise ValueError


def _circle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def _deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


_VALUES: dict[str, Any] = {
    "nan": float("nan"),
    "infinite": float("-inf"),
    "circle": _circle(),
    "deep": _deep(),
    "surrogate": "\udcff",
    "surrogate as a key": {"\udcff": 1},
    "nan within": [{"x": float("nan")}],
    "long number": 10**5000,
    "strange": _Strange(),
}


@pytest.mark.parametrize("kind", _VALUES)
def test_every_answer_can_be_written(kind: str) -> None:
    """As web frameworks write it: in UTF-8, and without what only JavaScript knows."""

    value = _VALUES[kind]

    class Odd(DomainRuleError):
        def __init__(self) -> None:
            self.value = value
            self.fine = 1
            super().__init__("half of a pair \udcff")

        def __str__(self) -> str:
            return self.args[0] if isinstance(value, str) else str(_Unwritable())

    body = problem_details(Odd()).body
    written = json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    assert json.loads(written) == body
    assert body["fine"] == 1
    assert "value" not in body
    assert isinstance(body["detail"], str)


def test_a_conflict_tells_the_versions() -> None:
    body = problem_details(ConcurrencyError("Order", "1", expected_version=1, actual_version=2)).body
    assert (body["aggregate_type"], body["expected_version"], body["actual_version"]) == ("Order", 1, 2)
    assert ProblemDetails.media_type == "application/problem+json"


def test_what_handlers_raise_has_its_status(engine: Engine) -> None:
    commands = Commands(engine, Base)
    with pytest.raises(NoResultFound) as missing:
        commands.handle(Annotate(order_id=UUID(int=1)))
    order_id = commands.handle(PlaceOrder(customer_id="ann")).result
    commands.handle(CancelOrder(order_id=order_id))
    with pytest.raises(OrderIsCancelled) as gone:
        commands.handle(Annotate(order_id=order_id))
    assert [problem_details(each.value).status for each in (missing, gone)] == [404, 422]


def test_the_library_imports_no_web_framework() -> None:
    import sa_eventsource

    words = ("fastapi", "flask", "starlette", "faststream")
    for path in Path(sa_eventsource.__file__).parent.joinpath("commands").glob("*.py"):
        assert not any(f"import {word}" in path.read_text() or f"from {word}" in path.read_text() for word in words)
