"""Samples of lag: as an address keeps them, how they are thinned out, and what is drawn from them. No database."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from sa_eventsource.browser.lag_pictures import NUMBERS, RATES, SECONDS, picture_of_rates, picture_of_values
from sa_eventsource.browser.lag_samples import (
    MOST,
    Count,
    Sample,
    intervals,
    read_positions,
    read_samples,
    whole,
    with_sample,
    write_positions,
    write_samples,
)

START = datetime(2026, 5, 4, 12, 3, 11, 123000, UTC)


def sample(seconds: float, lag: Count | int, taken: Count | int | None = None, age: float = 0) -> Sample:
    """A sample so many seconds after the start."""
    counts = [Count(each) if isinstance(each, int) else each for each in (lag, taken)]
    assert counts[0] is not None
    return Sample(START + timedelta(seconds=seconds), counts[0], timedelta(seconds=age), counts[1])


def test_what_is_written_is_read() -> None:
    samples = [
        sample(0, 0),
        sample(2.001, Count(10_000, is_whole=False), Count(100_000, is_whole=False), age=86_400.5),
        sample(4, 12, 0, age=0.004),
    ]
    assert read_samples(write_samples(samples)) == samples
    assert read_positions(write_positions((1, 0, 10**17))) == (1, 0, 10**17)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "<script>alert(1)</script>",
        "1777896191123-0-0",
        "1777896191123-0-0-x_",
        "1777896191123-0-0-x_1777896191123-0-0-0",
        "1777896191123-0-0-x_1777896190000-0-0-0",
        "1777896191123--1-0-x",
        "1777896191123-1e9-0-x",
        "1777896191123-0-0-x\n",
        "\u0661777896191123-0-0-x",
        "1777896191123-9999999999-0-x",
        "9" * 100_000,
        "_".join(f"{1_777_896_191_123 + number}-0-0-0" for number in range(MOST + 1)),
    ],
)
def test_what_no_page_has_written_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="starts over without them"):
        read_samples(text)


@pytest.mark.parametrize("text", ["", "a", "1-", "1--2", "-1", "1" * 19, "1\n", "-".join("1" * 2_000)])
def test_so_are_positions(text: str) -> None:
    with pytest.raises(ValueError, match="starts over without them"):
        read_positions(text)


def test_the_older_the_fewer_are_kept_and_no_event_is_lost() -> None:
    samples: list[Sample] = []
    for number in range(2_000):
        samples = with_sample(samples, sample(2 * number, 5, 3))
    gaps = [each.seconds for each in intervals(samples)]
    over_all = whole(samples)
    assert over_all is not None
    assert (len(samples), over_all.seconds, over_all.end.taken) == (MOST, 2 * 1_999, Count(3 * 1_999))
    assert gaps[-1] == 2
    assert sum(gaps[-10:]) < sum(gaps[:10]) / 10
    assert read_samples(write_samples(samples)) == samples
    assert len(write_samples(samples)) < 1_500


def test_what_is_not_known_of_a_part_is_not_known_of_the_whole() -> None:
    unknown = whole([sample(0, 1), sample(2, 1, None), sample(4, 1, 5)])
    more = whole([sample(0, 1), sample(2, 1, Count(100_000, is_whole=False)), sample(4, 1, 5)])
    assert unknown is not None
    assert more is not None
    assert (unknown.rate, unknown.arrivals, more.end.taken) == (None, None, Count(100_005, is_whole=False))
    assert whole([sample(0, 1)]) is None


def test_a_clock_that_was_set_back_begins_anew() -> None:
    assert with_sample([sample(0, 1), sample(10, 2, 3)], sample(5, 7, 9)) == [sample(5, 7)]


def test_rates_say_what_was_taken_what_came_in_and_when_it_is_level() -> None:
    over_all = whole([sample(0, 100), sample(2, 80, 30), sample(4, 40, 50)])
    assert over_all is not None
    assert (over_all.rate, over_all.arrivals, over_all.growth, over_all.level_in) == (20, 5, -15, 40 / 15)
    growing = whole([sample(0, 10), sample(2, 12, 0)])
    assert growing is not None
    assert (growing.arrivals, growing.falls_behind, growing.level_in) == (1, True, None)
    capped = whole([sample(0, Count(10_000, is_whole=False)), sample(2, Count(10_000, is_whole=False), 500)])
    assert capped is not None
    assert (capped.rate, capped.arrivals, capped.falls_behind, capped.level_in) == (250, None, False, None)


def test_pictures_stay_within_their_frames() -> None:
    samples = [sample(0, 0), sample(2, 130, 4), sample(8, 7, None), sample(10, 0, 60)]
    lag = picture_of_values(samples, [each.lag.number for each in samples], scale=NUMBERS)
    assert (lag.top, lag.line) == (200, "M0.0 100.0L200.0 35.0L800.0 96.5L1000.0 100.0")
    assert lag.points == "M0.0 100.0h0M200.0 35.0h0M800.0 96.5h0M1000.0 100.0h0"
    rates = picture_of_rates(samples, intervals(samples), scale=RATES)
    assert (rates.top, rates.area) == (50, "M0.0 100V96.0H200.0V100ZM800.0 100V40.0H1000.0V100Z")
    assert rates.line == "M0.0 96.0H200.0M800.0 40.0H1000.0"
    joined = [sample(0, 0), sample(5, 0, 5), sample(10, 0, 10)]
    assert picture_of_rates(joined, intervals(joined), scale=RATES).line == "M0.0 50.0H500.0V0.0H1000.0"
    assert picture_of_rates(samples[:1], [], scale=RATES).line == ""


@pytest.mark.parametrize(
    ("value", "top"), [(0, 10), (10, 10), (11, 20), (100, 100), (101, 200), (999, 1_000), (1_000, 1_000), (10_001, 20_000)]
)
def test_a_scale_ends_at_a_round_number_that_no_value_passes(value: float, top: float) -> None:
    assert picture_of_values([sample(0, 1), sample(1, 1)], [0, value], scale=NUMBERS).top == top


def test_a_scale_of_durations_ends_at_days() -> None:
    tops = [picture_of_values([sample(0, 1), sample(1, 1)], [0, each], scale=SECONDS).top for each in (0.2, 61, 90_000, 10**9)]
    assert tops == [1, 120, 2 * 86_400, 20_000 * 86_400]
    assert re.fullmatch(r"[MLVHZh0-9. ]+", picture_of_values([sample(0, 1), sample(1, 1)], [0, 5], scale=SECONDS).area)
