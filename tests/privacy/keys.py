"""Master keys for tests."""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass, field

from sa_eventsource.privacy import EnvironmentKeys
from sa_eventsource.privacy.ciphers import unwrapped, wrapped

VARIABLE = "SA_EVENTSOURCE_TEST_MASTER_KEYS"


def written(name: str, byte: bytes) -> str:
    """Write a master key as configurations have it."""
    return f"{name}:{b64encode(byte * 32).decode()}"


os.environ.setdefault(VARIABLE, written("first", b"1"))
MASTER_KEYS = EnvironmentKeys(VARIABLE)


@dataclass(eq=False)
class Service:
    """A service that wraps and unwraps, and counts how often it is asked."""

    wrapping: str = "kms"
    asked: list[str] = field(default_factory=list)

    def wrap(self, key: bytes) -> tuple[str, bytes]:
        self.asked.append("wrap")
        return self.wrapping, wrapped(b"k" * 32, key)

    def unwrap(self, _master_key: str, key: bytes) -> bytes:
        self.asked.append("unwrap")
        return unwrapped(b"k" * 32, key)
