"""Answers of other code that are kept for those who step through a stream: for some time, and up to a size.

States may have personal data in them. So answers are let go when their time is over, whether or not anybody asks again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sa_eventsource.replays.replayed_steps import Replay


@dataclass(frozen=True, slots=True)
class _Kept:
    """Two replays, by the deployed code and by other code; their size, until when they are kept, and what the second rests on."""

    replays: tuple[Replay, Replay]
    size: int
    until: float
    stamps: Mapping[str, tuple[int, int] | None]


class KeptAnswers:
    """Answers by the hash of the question. Those that are too many go, the oldest first."""

    def __init__(self, *, seconds: float, most_bytes: int) -> None:
        """Say how long answers are kept, and how much memory they may take together, about."""
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()  # by age, as all are kept for the same time
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def __len__(self) -> int:
        """Count the answers."""
        return len(self._kept)

    def find(self, key: bytes) -> tuple[Replay, Replay] | None:
        """Find the answer to a question, unless a file that it rests on has changed."""
        with self._lock:
            self._let_go()
            kept = self._kept.get(key)
        if kept is None or any(_stamp(file) != stamp for file, stamp in kept.stamps.items()):
            return None
        return kept.replays

    def keep(self, key: bytes, replays: tuple[Replay, Replay], files: Iterable[str]) -> None:
        """Keep an answer, and what its files are now. One that is larger than all that may be kept is not."""
        kept = _Kept(
            replays, sum(each.size for each in replays), time.monotonic() + self._seconds, {each: _stamp(each) for each in files}
        )
        with self._lock:
            self._kept.pop(key, None)
            if kept.size <= self._most_bytes:
                self._kept[key] = kept
            self._let_go()
            if self._timer is None or not self._timer.is_alive():  # a fork has no threads of its parent's
                self._wait()

    def _let_go(self) -> None:
        now = time.monotonic()
        size = sum(each.size for each in self._kept.values())
        while self._kept and (size > self._most_bytes or next(iter(self._kept.values())).until <= now):
            size -= self._kept.popitem(last=False)[1].size

    def _wait(self) -> None:
        """Have the oldest let go in time."""
        self._timer = None
        if self._kept:
            first = next(iter(self._kept.values()))
            self._timer = threading.Timer(max(first.until - time.monotonic(), 0), self._on_time)
            self._timer.daemon = True
            self._timer.start()

    def _on_time(self) -> None:
        with self._lock:
            self._let_go()
            self._wait()


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
