"""What is drawn from a seed."""

from __future__ import annotations

import pytest

from sa_eventsource.selftest.plan import KINDS, Plan, Units, chance_of


def test_a_seed_draws_the_same_plan_and_the_same_units_of_work_each_time() -> None:
    assert Plan.draw(5, 60) == Plan.draw(5, 60)
    assert Plan.draw(5, 60) != Plan.draw(6, 60)
    first, second = (Units(chance_of(5, "writer-1-1")) for _ in range(2))
    assert [first.draw() for _ in range(50)] == [second.draw() for _ in range(50)]


@pytest.mark.parametrize("seed", range(20))
def test_one_process_of_each_kind_is_killed_before_a_second_one(seed: int) -> None:
    plan = Plan.draw(seed, 30)
    assert {plan.crew[each.actor] for each in plan.kills[:3]} == {"writer", "worker", "stranger"}
    assert sum(each.after for each in plan.kills[:-1]) < 30 <= sum(each.after for each in plan.kills)


def test_a_round_has_units_of_every_kind() -> None:
    units = Units(chance_of(1, "writer-1-1"))
    assert {units.draw().kind for _ in range(16)} == set(KINDS)
