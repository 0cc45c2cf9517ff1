"""Master keys: they wrap the keys of those whose data events hold, and lie outside of the database."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sa_eventsource.exceptions import MasterKeyError
from sa_eventsource.extras import needs_extra
from sa_eventsource.written_keys import KeysInFile, KeysInVariable, keys_in

if TYPE_CHECKING:
    from collections.abc import Callable


def ciphers() -> Any:
    """Get the module that needs the package ``cryptography``.

    Raises:
        MissingExtraError: It is not installed.
    """
    with needs_extra("privacy", part="personal data"):
        return import_module("sa_eventsource.privacy.ciphers")


class _WrittenKeys:
    """Master keys that are written in a text: ``id:key``, the key as base64 of 32 bytes; several apart by white space or commas.

    The first wraps, the others unwrap what they have wrapped. The text is read each time, so that a new key counts at once; what
    they have unwrapped is kept for some minutes elsewhere.
    """

    def _text(self) -> str:
        raise NotImplementedError

    def wrap(self, key: bytes) -> tuple[str, bytes]:
        """Wrap the key of a subject with the first master key.

        Raises:
            MasterKeyError: There is none, or what should be one is none.
        """
        keys = self.keys()
        first = next(iter(keys))
        return first, ciphers().wrapped(keys[first], key)

    def unwrap(self, master_key: str, wrapped: bytes) -> bytes:
        """Unwrap the key of a subject.

        Raises:
            MasterKeyError: The master key is not there, or is another one.
        """
        keys = self.keys()
        if master_key not in keys:
            raise MasterKeyError(master_key, f"{self} has {', '.join(keys)}")
        try:
            key: bytes = ciphers().unwrapped(keys[master_key], wrapped)
        except ValueError as error:
            raise MasterKeyError(master_key, str(error)) from error
        return key

    def keys(self) -> dict[str, bytes]:
        """Read the keys, by their ids; the first is the present one.

        Raises:
            MasterKeyError: There is none, or what should be one is none.
        """
        try:
            return keys_in(self._text(), str(self))
        except ValueError as error:
            raise MasterKeyError("", str(error)) from error


@dataclass(frozen=True)
class EnvironmentKeys(KeysInVariable, _WrittenKeys):
    """Master keys in an environment variable: ``2026:MDEyMzQ1...``, several apart by commas, of which the first wraps.

    Attributes:
        variable: Name of the variable.
    """

    variable: str = "SA_EVENTSOURCE_MASTER_KEYS"


@dataclass(frozen=True)
class FileKeys(KeysInFile, _WrittenKeys):
    """Master keys in a file, one ``id:key`` a line, of which the first wraps.

    Attributes:
        path: Where it lies. Only who runs the application should be able to read it.
    """


@dataclass(frozen=True)
class ServiceKeys:
    """Master keys that a service holds, such as a KMS or Vault's transit engine: it wraps and unwraps, and never gives them away.

    Attributes:
        wrap: Called with the key of a subject, 32 bytes, when there is a new one; returns the id of the master key, 1 to 255
            characters, and the wrapped key.
        unwrap: Called with both; returns the key. What it returned is kept in the process for some minutes.
    """

    wrap: Callable[[bytes], tuple[str, bytes]]
    unwrap: Callable[[str, bytes], bytes]
