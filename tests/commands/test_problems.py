"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import json
from pathlib import Path
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
from tests.commands.bakery import AddCandle, Base, CakeIsGone, EatCake, OrderCake


class _Deadlock(Exception):
    sqlstate = "40P01"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConcurrencyError("Cake", "1", expected_version=1, actual_version=2), 409),
        (OperationalError("INSERT", {}, _Deadlock()), 409),
        (EventAlreadyAppendedError([UUID(int=1)], "Cake", "1"), 409),
        (AggregateNotFoundError("Cake", "1"), 404),
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
    problem = problem_details(CakeIsGone(UUID(int=7)))
    assert problem.body == {
        "type": "https://bakery.example/problems/cake-is-gone",
        "title": problem.title,
        "status": 422,
        "detail": f"cake {UUID(int=7)} is eaten",
        "cake_id": str(UUID(int=7)),
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


def test_a_conflict_tells_the_versions() -> None:
    body = problem_details(ConcurrencyError("Cake", "1", expected_version=1, actual_version=2)).body
    assert (body["aggregate_type"], body["expected_version"], body["actual_version"]) == ("Cake", 1, 2)
    assert ProblemDetails.media_type == "application/problem+json"


def test_what_handlers_raise_has_its_status(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    commands = Commands(engine, Base)
    with pytest.raises(NoResultFound) as missing:
        commands.handle(AddCandle(cake_id=UUID(int=1)))
    cake_id = commands.handle(OrderCake(flavour="lemon")).result
    commands.handle(EatCake(cake_id=cake_id))
    with pytest.raises(CakeIsGone) as gone:
        commands.handle(AddCandle(cake_id=cake_id))
    assert [problem_details(each.value).status for each in (missing, gone)] == [404, 422]


def test_the_library_imports_no_web_framework() -> None:
    import sa_eventsource

    words = ("fastapi", "flask", "starlette", "faststream")
    for path in Path(sa_eventsource.__file__).parent.joinpath("commands").glob("*.py"):
        assert not any(f"import {word}" in path.read_text() or f"from {word}" in path.read_text() for word in words)
