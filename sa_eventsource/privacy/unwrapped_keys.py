"""Keys that were unwrapped lately, so that a service is not asked for each event. Whether a key may be used says the database."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from sa_eventsource.privacy.master_keys import ciphers

if TYPE_CHECKING:
    from sa_eventsource.mapping import MasterKeys

_MOST = 10_000
_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class UnwrappedKey:
    """The key of a subject.

    Attributes:
        key: The key.
        cipher: What seals and opens with it.
    """

    key: bytes
    cipher: Any


class UnwrappedKeys:
    """Keys by what they are wrapped as: at most so many, and none for longer than so many seconds."""

    def __init__(self, most: int = _MOST, seconds: float = _SECONDS) -> None:
        """Set the bounds."""
        self._most = most
        self._seconds = seconds
        self._kept: OrderedDict[tuple[str, bytes], tuple[float, UnwrappedKey]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        """Count those that are kept."""
        return len(self._kept)

    def get(self, master_keys: MasterKeys, master_key: str, wrapped: bytes) -> UnwrappedKey:
        """Unwrap a key, or take the one that is kept.

        Raises:
            MasterKeyError: It cannot be unwrapped.
        """
        name = master_key, wrapped
        kept = self._kept.get(name)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        return self.keep(master_key, wrapped, master_keys.unwrap(master_key, wrapped))

    def keep(self, master_key: str, wrapped: bytes, key: bytes) -> UnwrappedKey:
        """Keep a key that was unwrapped, or has just been made."""
        found = UnwrappedKey(key, ciphers().Cipher(key))
        now = time.monotonic()
        with self._lock:
            self._kept.pop((master_key, wrapped), None)
            self._kept[master_key, wrapped] = now + self._seconds, found
            while len(self._kept) > self._most or next(iter(self._kept.values()))[0] <= now:
                self._kept.popitem(last=False)  # the oldest, as all are kept for the same time
        return found
