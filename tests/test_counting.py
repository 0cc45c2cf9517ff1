"""How many there are of something, in a sentence."""

from __future__ import annotations

import pytest

from sa_eventsource.counting import counted


@pytest.mark.parametrize(
    ("number", "plain", "with_verb"),
    [(0, "0 events", "0 commands are"), (1, "1 event", "1 command is"), (2, "2 events", "2 commands are")],
)
def test_what_is_counted_stands_in_the_singular_behind_one(number: int, plain: str, with_verb: str) -> None:
    assert counted(number, "event") == plain
    assert counted(number, "command is", "commands are") == with_verb
