"""Whatever a session does, an aggregate behaves as an ordinary entity, except for the table of differences."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from tests.twin.machine import TwinMachine
from tests.twin.worlds import JoinMode, Setting

ON_ENGINES = st.builds(Setting, st.booleans(), st.booleans(), st.booleans(), st.booleans())
ON_CONNECTIONS = st.builds(
    Setting, st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.sampled_from(typing.get_args(JoinMode))
)
IN_TWO_PHASES = st.builds(Setting, st.booleans(), st.booleans(), st.booleans(), st.booleans(), twophase=st.just(True))


def run(
    on: tuple[Engine, Engine],
    made_with: st.SearchStrategy[Setting],
    programs: int,
    machine: type[TwinMachine] = TwinMachine,
) -> Counter[str]:
    """Run random programs; give what was done in them, and how often.

    Args:
        on: Where the aggregates are, and where their twins.
        made_with: What the sessions are made with.
        programs: How many programs are run in an ordinary run of the tests; more where the profile says so.
        machine: Draws the programs.
    """

    class Machine(machine):  # type: ignore[misc, valid-type]
        engines = on
        settings = made_with
        seen: ClassVar[Counter[str]] = Counter()

    chosen = settings(
        max_examples=max(programs, programs * settings().max_examples // settings.get_profile("ci").max_examples),
        stateful_step_count=30,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        phases=[Phase.explicit, Phase.generate],
    )
    run_state_machine_as_test(Machine, settings=chosen)
    print(", ".join(f"{number} {what}" for what, number in sorted(Machine.seen.items())))
    return Machine.seen


def test_on_sqlite(sqlite_engines: tuple[Engine, Engine]) -> None:
    seen = run(sqlite_engines, ON_ENGINES, programs=25)
    assert seen["Commit"]


@pytest.mark.parametrize(("isolation_level", "programs"), [("READ COMMITTED", 15), ("REPEATABLE READ", 10)])
def test_on_postgresql(postgres_engines: Callable[..., Any], isolation_level: str, programs: int) -> None:
    with postgres_engines(isolation_level=isolation_level) as engines:
        seen = run(engines, ON_ENGINES, programs)
    assert seen["Commit"]


def test_on_a_connection_whose_transaction_began_outside(postgres_engines: Callable[..., Any]) -> None:
    with postgres_engines() as engines:
        seen = run(engines, ON_CONNECTIONS, programs=10)
    assert seen["Leave"]


def test_in_autocommit_mode(postgres_engines: Callable[..., Any]) -> None:
    with postgres_engines(isolation_level="AUTOCOMMIT") as engines:
        seen = run(engines, ON_ENGINES, programs=5)
    assert seen["Get"]


def test_in_two_phases(preparing_engines: tuple[Engine, Engine]) -> None:
    seen = run(preparing_engines, IN_TWO_PHASES, programs=8)
    assert seen["Prepare"]
