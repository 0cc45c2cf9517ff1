"""What is left to the package ``cryptography``: AES-256-GCM for values, AES key wrap (RFC 3394) for keys, HKDF for derived ones."""

from __future__ import annotations

import os
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEY_BYTES = 32
_NONCE_BYTES = 12


def new_key() -> bytes:
    """Draw a key."""
    return os.urandom(KEY_BYTES)


def derived(keys: Sequence[bytes], purpose: bytes) -> bytes:
    """Derive a key from several, so that who lacks one of them cannot."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(b"".join(keys))


def wrapped(master: bytes, key: bytes) -> bytes:
    """Wrap a key by a master key of 32 bytes."""
    return aes_key_wrap(master, key)


def unwrapped(master: bytes, key: bytes) -> bytes:
    """Undo :func:`wrapped`.

    Raises:
        ValueError: It is no key that this master key has wrapped.
    """
    try:
        return aes_key_unwrap(master, key)
    except InvalidUnwrap as error:
        raise ValueError("the master key is another one than that which wrapped it") from error


class Cipher:
    """Seals and opens texts with one key."""

    def __init__(self, key: bytes) -> None:
        """Take a key of 32 bytes."""
        aead = AESGCM(key)
        self._encrypt: Callable[[bytes, bytes, bytes], bytes] = aead.encrypt
        self._decrypt: Callable[[bytes, bytes, bytes], bytes] = aead.decrypt

    def seal(self, text: str, place: bytes) -> str:
        """Encrypt a text, bound to a place: in base64, the nonce, the encrypted text and the tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return b2a_base64(nonce + self._encrypt(nonce, text.encode(), place), newline=False).decode("ascii")

    def open(self, box: str, place: bytes) -> str:
        """Undo :meth:`seal`.

        Raises:
            ValueError: It was sealed with another key or in another place, or was changed.
        """
        data = a2b_base64(box, strict_mode=True)
        try:
            return self._decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], place).decode()
        except InvalidTag as error:
            raise ValueError("it was changed, or comes from another place") from error
