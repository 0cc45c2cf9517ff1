"""Heads: what stands for a whole log up to one event, in a few hundred bytes that are kept elsewhere."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sa_eventsource.counting import counted
from sa_eventsource.exceptions import ProofError
from sa_eventsource.integrity.signing_keys import ed25519

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sa_eventsource.mapping import SigningKey

FORMAT = "sa_eventsource.head"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of the Merkle tree over a log's first events.

    Attributes:
        tree_size: How many events it covers.
        root: The tree's root hash, 32 bytes.
        positions_hash: The hash of their positions: SHA-256 of the hash up to the event before, and the position in 8 bytes.
        made_at: When it was made, by the clock of the worker that made it; in UTC.
        key_id: The id of the key that signed it; None without a signature.
        signature: By Ed25519, of :attr:`text`; likewise.
        timestamp: The response of a time-stamping authority (RFC 3161) for :attr:`text`; None where none was asked.
    """

    tree_size: int
    root: bytes
    positions_hash: bytes
    made_at: datetime
    key_id: str | None = None
    signature: bytes | None = None
    timestamp: bytes | None = None

    @property
    def text(self) -> bytes:
        """What is signed and time-stamped: five lines."""
        lines = (f"{FORMAT} {VERSION}", self.tree_size, self.root.hex(), self.positions_hash.hex(), self.made_at.isoformat())
        return "".join(f"{each}\n" for each in lines).encode()

    def check_signature(self, public_keys: Mapping[str, bytes]) -> None:
        """Check who signed it.

        Args:
            public_keys: The public keys that are trusted, by id.

        Raises:
            ProofError: None of them signed it.
            MissingExtraError: ``cryptography`` is not installed.
        """
        check_signature(self.name, self.text, self.key_id, self.signature, public_keys)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"the head of {counted(self.tree_size, 'event')}"

    def to_json(self) -> dict[str, Any]:
        """Write it as what ``json.dumps`` takes."""
        found: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "tree_size": self.tree_size,
            "root": self.root.hex(),
            "positions_hash": self.positions_hash.hex(),
            "made_at": self.made_at.isoformat(),
        }
        if self.signature is not None:
            found |= {"key_id": self.key_id, "signature": b64encode(self.signature).decode()}
        if self.timestamp is not None:
            found |= {"timestamp": b64encode(self.timestamp).decode()}
        return found

    @classmethod
    def from_json(cls, text: str | bytes | Mapping[str, Any]) -> Head:
        """Read what :meth:`to_json` has written.

        Args:
            text: The JSON text, or what was read from one.

        Raises:
            ProofError: It is no head.
        """
        found = json_document(text, "the head", FORMAT, VERSION)
        try:
            return cls(
                tree_size=whole(found["tree_size"]),
                root=bytes.fromhex(found["root"]),
                positions_hash=bytes.fromhex(found["positions_hash"]),
                made_at=datetime.fromisoformat(found["made_at"]).astimezone(UTC),
                key_id=found.get("key_id"),
                signature=_optional(found.get("signature")),
                timestamp=_optional(found.get("timestamp")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProofError("the head", f"it is no head: {type(error).__name__}: {error}") from error


def signed(data: bytes, key: SigningKey | None) -> tuple[str | None, bytes | None]:
    """Sign with a key, if there is one; return its id and the signature."""
    return (None, None) if key is None else key.sign(data)


def check_signature(what: str, data: bytes, key_id: str | None, signature: bytes | None, public_keys: Mapping[str, bytes]) -> None:
    """Check that one of some keys signed something.

    Args:
        what: What it is, for the message.
        data: What should be signed.
        key_id: The key that it says.
        signature: The signature; None if there is none.
        public_keys: The keys that are trusted, by id.

    Raises:
        ProofError: None of them did.
    """
    if signature is None or key_id is None:
        raise ProofError(what, "it is not signed")
    if key_id not in public_keys:
        known = ", ".join(map(repr, public_keys)) or "none"
        raise ProofError(what, f"it is signed with the key {key_id!r}, and the public keys are those of {known}")
    if not ed25519().is_signed(public_keys[key_id], signature, data):
        raise ProofError(what, f"the signature is not one of the key {key_id!r}")


def json_document(text: str | bytes | Mapping[str, Any], what: str, name: str, version: int) -> Mapping[str, Any]:
    """Read a JSON object of a format.

    Raises:
        ProofError: It is none.
    """
    try:
        found = json.loads(text) if isinstance(text, str | bytes) else text
    except ValueError as error:
        raise ProofError(what, f"it is not JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != name or found.get("version") != version:
        raise ProofError(what, f'it is no object with "format": "{name}" and "version": {version}')
    return found


def whole(value: object) -> int:
    """Take a whole number of a file, 0 or more.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no number of events")
    return value


def _optional(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text, validate=True)
