"""Keys that sign the heads of a log, and lie outside of the database; and the public keys by which signatures are checked."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sa_eventsource.exceptions import SigningKeyError
from sa_eventsource.extras import needs_extra
from sa_eventsource.written_keys import KeysInFile, KeysInVariable, keys_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def ed25519() -> Any:
    """Get the module that needs the package ``cryptography``.

    Raises:
        MissingExtraError: It is not installed.
    """
    with needs_extra("proofs", part="signing heads"):
        return import_module("sa_eventsource.integrity.ed25519")


def public_keys(text: str, place: str = "the text") -> dict[str, bytes]:
    """Read public keys by their ids: ``id:key``, the key as base64 of 32 bytes; several apart by white space or commas.

    Args:
        text: What is written, such as ``sa-eventsource public-keys`` prints.
        place: Where, for messages.

    Raises:
        SigningKeyError: There is none, or one of them is none.
    """
    try:
        return keys_in(text, place)
    except ValueError as error:
        raise SigningKeyError(str(error)) from error


class _WrittenSigningKeys:
    """Private keys that are written in a text: ``id:key``, the key as base64 of 32 random bytes. The first signs.

    Others, which signed before, may follow it. The text is read each time, so that a new key counts at once.
    """

    def _text(self) -> str:
        raise NotImplementedError

    def sign(self, data: bytes) -> tuple[str, bytes]:
        """Sign with the first key.

        Raises:
            SigningKeyError: There is none, or what should be one is none.
        """
        name, key = next(iter(self._keys().items()))
        return name, ed25519().signature_of(key, data)

    def public_keys(self) -> Mapping[str, bytes]:
        """Give the public keys that belong to them, by id: for those who check.

        Raises:
            SigningKeyError: There is none, or what should be one is none.
        """
        return {name: ed25519().public_key_of(key) for name, key in self._keys().items()}

    def _keys(self) -> dict[str, bytes]:
        try:
            return keys_in(self._text(), str(self))
        except ValueError as error:
            raise SigningKeyError(str(error)) from error


@dataclass(frozen=True)
class EnvironmentSigningKey(KeysInVariable, _WrittenSigningKeys):
    """Signing keys in an environment variable: ``2026:MDEyMzQ1...``, several apart by commas, of which the first signs.

    Attributes:
        variable: Name of the variable.
    """

    variable: str = "SA_EVENTSOURCE_SIGNING_KEY"


@dataclass(frozen=True)
class FileSigningKey(KeysInFile, _WrittenSigningKeys):
    """Signing keys in a file, one ``id:key`` a line, of which the first signs.

    Attributes:
        path: Where it lies. Only who runs the worker should be able to read it.
    """


@dataclass(frozen=True)
class ServiceSigningKey:
    """A signing key that a service holds, such as a KMS, and never gives away.

    Attributes:
        sign: Called with what is to be signed, some 200 bytes; returns the id of the key, 1 to 255 characters, and the signature by
            Ed25519, 64 bytes.
        public_keys: Called for the public keys that belong to it, 32 bytes each, by id; the former ones too. With them, a worker
            checks who signed the tree that it is to add to; where it is None, it does not.
    """

    sign: Callable[[bytes], tuple[str, bytes]]
    public_keys: Callable[[], Mapping[str, bytes]] | None = None


def written_public_keys(keys: Mapping[str, bytes]) -> str:
    """Write public keys as :func:`public_keys` reads them, one a line."""
    return "".join(f"{name}:{b64encode(key).decode()}\n" for name, key in keys.items())
