"""What is left to the package ``cryptography``: signatures by Ed25519."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def signature_of(private_key: bytes, data: bytes) -> bytes:
    """Sign with a private key of 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(private_key).sign(data)


def public_key_of(private_key: bytes) -> bytes:
    """Give the public key that belongs to a private key."""
    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def is_signed(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Check a signature."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
