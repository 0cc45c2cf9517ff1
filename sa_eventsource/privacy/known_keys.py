"""Which keys subjects had lately, so that an append need not ask before it inserts: the INSERT makes sure of them."""

from __future__ import annotations

import time
from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Connection, Pool, Table

_MOST = 10_000
_SECONDS = 300.0


class KnownKey(NamedTuple):
    """The newest key of a subject, as it was found in the table.

    Attributes:
        key_id: Its id, as 32 hexadecimal digits.
        master_key: The name of the master key that has wrapped it.
        wrapped: The wrapped key.
    """

    key_id: str
    master_key: str
    wrapped: bytes


class KnownKeys:
    """Keys by database, table and subject: of each database at most so many, and none for longer than so many seconds."""

    def __init__(self, most: int = _MOST, seconds: float = _SECONDS) -> None:
        """Set the bounds."""
        self._most = most
        self._seconds = seconds
        self._kept: WeakKeyDictionary[Pool, OrderedDict[tuple[Table, str], tuple[float, KnownKey]]] = WeakKeyDictionary()
        self._lock = Lock()

    def get(self, connection: Connection, table: Table, subjects: Collection[str]) -> dict[str, KnownKey] | None:
        """Give the keys of subjects; None where that of one is not known."""
        kept = self._kept.get(connection.engine.pool)
        if kept is None:
            return None
        now, known = time.monotonic(), dict[str, KnownKey]()
        for subject in subjects:
            until, key = kept.get((table, subject), _UNKNOWN)
            if until <= now or key is None:
                return None
            known[subject] = key
        return known

    def keep(self, connection: Connection, table: Table, keys: Mapping[str, KnownKey]) -> None:
        """Keep keys that were found."""
        until = time.monotonic() + self._seconds
        with self._lock:
            kept = self._kept.setdefault(connection.engine.pool, OrderedDict())
            for subject, key in keys.items():
                kept.pop((table, subject), None)
                kept[table, subject] = until, key
            while len(kept) > self._most:
                kept.popitem(last=False)

    def drop(self, connection: Connection, table: Table, subjects: Collection[str]) -> None:
        """Keep no more what is known of subjects."""
        with self._lock:
            kept = self._kept.get(connection.engine.pool)
            if kept is not None:
                for subject in subjects:
                    kept.pop((table, subject), None)


_UNKNOWN: tuple[float, KnownKey | None] = 0.0, None
