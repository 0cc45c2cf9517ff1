"""Answers that are kept: up to a size, for a time that ends by itself, and as long as their files stay as they were."""

from __future__ import annotations

import threading
import time
import tracemalloc
from pathlib import Path

from sa_eventsource.replays import Replay, ReplayedStep
from sa_eventsource.replays.kept_answers import KeptAnswers


def replay(events: int, fields: int = 5) -> Replay:
    """Make a replay in which each event changes each field."""
    names = [f"field_{number}" for number in range(fields)]
    steps = [ReplayedStep(version, {name: f"{name}-{version:016}" for name in names}) for version in range(events)]
    return Replay(names, steps)


def test_the_size_of_a_replay_is_about_the_memory_that_it_takes() -> None:
    tracemalloc.start()
    try:
        made = replay(2_000)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.7 * taken < made.size < 1.3 * taken


def test_what_a_step_shows_counts_too() -> None:
    plain, shown = ReplayedStep(1, {}), ReplayedStep(1, {}, {"to": "a" * 5_000})
    assert shown.size - plain.size > 5_000


def test_answers_are_kept_up_to_a_size_and_the_oldest_go() -> None:
    one = replay(100)
    answers = KeptAnswers(seconds=300, most_bytes=2 * 2 * one.size)
    for key in (b"1", b"2", b"3"):
        answers.keep(key, (one, one), [])
    assert [answers.find(key) is not None for key in (b"1", b"2", b"3")] == [False, True, True]
    answers.keep(b"3", (one, one), [])
    assert len(answers) == 2
    answers.keep(b"large", (replay(400), one), [])
    assert (answers.find(b"large"), len(answers)) == (None, 2)


def test_an_answer_goes_when_its_time_is_over_though_nobody_asks() -> None:
    answers = KeptAnswers(seconds=0.05, most_bytes=10_000)
    answers.keep(b"1", (replay(1), replay(1)), [])
    answers.keep(b"2", (replay(1), replay(1)), [])
    ends = time.monotonic() + 60
    while len(answers) and time.monotonic() < ends:
        threading.Event().wait(0.01)
    assert len(answers) == 0


def test_an_answer_rests_on_its_files(tmp_path: Path) -> None:
    file = tmp_path / "parcels.py"
    file.write_text("one")
    answers = KeptAnswers(seconds=300, most_bytes=10_000)
    kept = (replay(1), replay(1))
    answers.keep(b"1", kept, [str(file)])
    assert answers.find(b"1") is kept
    file.write_text("other")
    assert answers.find(b"1") is None


def test_there_is_one_thread_at_most_that_waits() -> None:
    before = threading.active_count()
    answers = KeptAnswers(seconds=300, most_bytes=10_000)
    for number in range(5):
        answers.keep(bytes([number]), (replay(1), replay(1)), [])
    assert threading.active_count() <= before + 1
