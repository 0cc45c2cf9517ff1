"""Samples of how far a consumer is behind, kept in the address of a page: it draws lag over time, and needs no table for that.

An address may be written by anybody: what no page has written is refused. The older the samples, the fewer of them are kept, so
that a page which is left open for a night shows all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 40
"""How many samples an address keeps."""


@dataclass(frozen=True, slots=True)
class Count:
    """A number of events.

    Attributes:
        number: As far as they were counted.
        is_whole: Whether these are all; otherwise there are more.
    """

    number: int
    is_whole: bool = True

    def __add__(self, other: Count) -> Count:
        """Both together."""
        return Count(self.number + other.number, self.is_whole and other.is_whole)


@dataclass(frozen=True, slots=True)
class Sample:
    """How far a consumer was behind at a moment.

    Attributes:
        moment: When, in UTC, to the millisecond.
        lag: How many events it had yet to take.
        age: How long ago the oldest of them had been recorded.
        taken: How many it had taken since the sample before; None for the first one, and where that is not known.
    """

    moment: datetime
    lag: Count
    age: timedelta
    taken: Count | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between two samples.

    Attributes:
        begin: The first of them.
        end: The second.
    """

    begin: Sample
    end: Sample

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.end.moment - self.begin.moment).total_seconds()

    @property
    def rate(self) -> float | None:
        """How many events it took a second, at least where they are not all counted; None where that is not known."""
        return None if self.end.taken is None else self.end.taken.number / self.seconds

    @property
    def arrivals(self) -> float | None:
        """How many events a second came in for it; None where that is not known."""
        counts = self.begin.lag, self.end.lag, self.end.taken
        if any(each is None or not each.is_whole for each in counts) or self.end.taken is None:
            return None
        number = self.end.taken.number + self.end.lag.number - self.begin.lag.number
        return number / self.seconds if number >= 0 else None

    @property
    def growth(self) -> float | None:
        """By how many events a second the lag grew; None where it is not known as a whole."""
        counts = self.begin.lag, self.end.lag
        return (counts[1].number - counts[0].number) / self.seconds if all(each.is_whole for each in counts) else None

    @property
    def falls_behind(self) -> bool:
        """Whether the lag grew."""
        return self.growth is not None and self.growth > 0

    @property
    def level_in(self) -> float | None:
        """After how many seconds it has taken all, if it goes on like this; None where it does not get there."""
        return None if self.growth is None or self.growth >= 0 or not self.end.lag.number else self.end.lag.number / -self.growth


def intervals(samples: Sequence[Sample]) -> list[Interval]:
    """Give what happened between samples that follow each other."""
    return [Interval(*each) for each in pairwise(samples)]


def whole(samples: Sequence[Sample]) -> Interval | None:
    """Give what happened from the first to the last of some samples as one; None where there are not two."""
    if len(samples) < 2:  # noqa: PLR2004
        return None
    return Interval(samples[0], replace(samples[-1], taken=_sum([each.taken for each in samples[1:]])))


def with_sample(samples: Sequence[Sample], newest: Sample) -> list[Sample]:
    """Add a sample. A clock that was set back starts over."""
    if samples and samples[-1].moment >= newest.moment:
        samples = ()
    return _thinned([*samples, newest if samples else replace(newest, taken=None)])


def _thinned(samples: list[Sample]) -> list[Sample]:
    """Leave out those closest to their neighbours for their age, until few enough are left; the first and the last stay."""
    while len(samples) > MOST:
        last = samples[-1].moment
        gaps = [
            (samples[n + 1].moment - samples[n - 1].moment) / (last - samples[n - 1].moment) for n in range(1, len(samples) - 1)
        ]
        number = gaps.index(min(gaps)) + 1
        after = replace(samples[number + 1], taken=_sum([samples[number].taken, samples[number + 1].taken]))
        samples = [*samples[:number], after, *samples[number + 2 :]]
    return samples


def _sum(counts: Sequence[Count | None]) -> Count | None:
    known = [each for each in counts if each is not None]
    return sum(known, Count(0)) if len(known) == len(counts) else None


def write_samples(samples: Sequence[Sample]) -> str:
    """Write samples for an address."""
    return "_".join(_written(each) for each in samples)


def _written(sample: Sample) -> str:
    moment = round(sample.moment.timestamp() * 1000)
    taken = "x" if sample.taken is None else _count_written(sample.taken)
    return f"{moment}-{_count_written(sample.lag)}-{round(sample.age / _MILLISECOND)}-{taken}"


def _count_written(count: Count) -> str:
    return f"{'' if count.is_whole else 'm'}{count.number}"


_MILLISECOND = timedelta(milliseconds=1)
_SAMPLE = re.compile(r"([0-9]{13})-(m?[0-9]{1,9})-([0-9]{1,13})-(x|m?[0-9]{1,9})")
_LONGEST = MOST * 60


def read_samples(text: str) -> list[Sample]:
    """Read the samples of an address.

    Raises:
        ValueError: No page has written them.
    """
    found = [_SAMPLE.fullmatch(each) for each in text.split("_")] if 0 < len(text) <= _LONGEST else []
    samples = [_read(*each.groups()) for each in found if each is not None]
    is_ordered = all(one.moment < other.moment for one, other in pairwise(samples))
    if not 0 < len(samples) == len(found) <= MOST or not is_ordered:
        raise ValueError("these are not samples that a page has taken; it starts over without them")
    return samples


def _read(moment: str, lag: str, age: str, taken: str) -> Sample:
    when = datetime.fromtimestamp(0, UTC) + int(moment) * _MILLISECOND
    return Sample(when, _count_read(lag), int(age) * _MILLISECOND, None if taken == "x" else _count_read(taken))


def _count_read(text: str) -> Count:
    return Count(int(text.removeprefix("m")), is_whole=not text.startswith("m"))


_PLACES = re.compile(r"[0-9]{1,18}(?:-[0-9]{1,18}){0,1023}")


def write_positions(positions: Sequence[int]) -> str:
    """Write the positions that the parts of a consumer had reached at the last sample."""
    return "-".join(map(str, positions))


def read_positions(text: str) -> tuple[int, ...]:
    """Read them.

    Raises:
        ValueError: No page has written them.
    """
    if _PLACES.fullmatch(text) is None:
        raise ValueError("these are not positions that a page has seen; it starts over without them")
    return tuple(map(int, text.split("-")))
