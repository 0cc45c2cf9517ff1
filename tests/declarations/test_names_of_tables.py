"""Two of the library's tables have two names."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from sa_eventsource import DeclarationError, EventSourceOptions
from tests.privacy.keys import MASTER_KEYS

NAMED = (
    "events",
    "projections",
    "snapshots",
    "projection_positions",
    "parked_events",
    "commands",
    "subject_keys",
    "forgotten_subjects",
)


def test_every_option_that_names_a_table_is_tried_here() -> None:
    assert set(EventSourceOptions(commands="commands", master_keys=MASTER_KEYS).names()) == set(NAMED)


@pytest.mark.parametrize(("one", "other"), list(combinations(NAMED, 2)))
def test_one_name_for_two_tables_is_refused(one: str, other: str) -> None:
    given: dict[str, Any] = {"commands": "commands", one: "twice", other: "twice"}
    with pytest.raises(DeclarationError, match=rf"{one} and {other} both name a table 'twice'\. .* {other}=\"stored_{other}\"\."):
        EventSourceOptions(master_keys=MASTER_KEYS, **given)


def test_a_default_name_counts_too() -> None:
    with pytest.raises(DeclarationError, match="events and commands both name a table 'events'"):
        EventSourceOptions(commands="events")


def test_the_name_of_a_partition_is_refused() -> None:
    with pytest.raises(DeclarationError, match="partitions and snapshots both name a table 'events_p3'"):
        EventSourceOptions(snapshots="events_p3", partitions=4)
    assert EventSourceOptions(snapshots="events_p4", partitions=4).snapshots == "events_p4"


def test_names_of_tables_that_are_not_made_may_be_taken() -> None:
    assert EventSourceOptions(commands="subject_keys").commands == "subject_keys"
