"""What pictures of lag and rate over time are drawn from: lines, bars and scales, in the units of a picture that is stretched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sa_eventsource.browser.lag_samples import Interval, Sample

WIDTH, HEIGHT = 1000, 100


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture over time, from the first to the last sample.

    Attributes:
        top: The value at its upper edge; 0 is at the lower one.
        line: What was seen, joined by lines, as SVG writes it.
        area: What lies below them.
        points: A point for each value that was seen.
    """

    top: float
    line: str
    area: str
    points: str


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where moments and values lie in a picture."""

    begin: datetime
    end: datetime
    top: float

    def x(self, moment: datetime) -> float:
        length = (self.end - self.begin).total_seconds()
        return round(WIDTH * (moment - self.begin).total_seconds() / length, 1) if length else 0.0

    def y(self, value: float) -> float:
        return round(HEIGHT - HEIGHT * value / self.top, 1)


def picture_of_values(samples: Sequence[Sample], values: Sequence[float], *, scale: Sequence[float]) -> Picture:
    """Draw a value of each sample. What lies between two samples nobody has seen; a straight line joins them."""
    frame = _Frame(samples[0].moment, samples[-1].moment, _top(values, scale))
    places = [f"{frame.x(each.moment)} {frame.y(value)}" for each, value in zip(samples, values, strict=True)]
    line = "M" + "L".join(places)
    area = f"{line}V{HEIGHT}H0Z" if len(places) > 1 else ""
    return Picture(frame.top, line, area, "".join(f"M{each}h0" for each in places))


def picture_of_rates(samples: Sequence[Sample], parts: Sequence[Interval], *, scale: Sequence[float]) -> Picture:
    """Draw how many events a second were taken between samples: a bar for each two, whose area is the number of events."""
    known = [(each, each.rate) for each in parts if each.rate is not None]
    frame = _Frame(samples[0].moment, samples[-1].moment, _top([rate for _, rate in known], scale))
    bars = [(frame.x(each.begin.moment), frame.x(each.end.moment), frame.y(rate)) for each, rate in known]
    ends = [None, *(right for _, right, _ in bars)]
    line = "".join(
        f"V{y}H{right}" if left == end else f"M{left} {y}H{right}" for end, (left, right, y) in zip(ends, bars, strict=False)
    )
    area = "".join(f"M{left} {HEIGHT}V{y}H{right}V{HEIGHT}Z" for left, right, y in bars)
    return Picture(frame.top, line, area, "")


NUMBERS = (10.0, 20.0, 50.0, 100.0)
"""Where a scale of numbers ends; larger ones in the same steps."""

RATES = (1.0, 2.0, 5.0, 10.0)

SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 43200.0, 86400.0)
"""Where a scale of durations ends; longer ones in days."""


def _top(values: Sequence[float], scale: Sequence[float]) -> float:
    """Choose where a scale ends: at the first step that all values lie below."""
    most = max(values, default=0.0)
    for each in scale:
        if most <= each:
            return each
    last = scale[-1]
    power = 10.0 ** math.floor(math.log10(most / last))
    return next(last * power * step for step in (1, 2, 5, 10) if most <= last * power * step)
