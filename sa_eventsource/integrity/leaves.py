"""Leaves of the tree: what is hashed of an event.

That is a JSON object of all that is stored of it but the position and the transaction's id: the line of an export without
``position``. Payload and metadata are in it as the text that the database gives, so that personal data counts in its sealed form
and the hash stays when the key is destroyed. The position is left out, as a log that was exported and imported has others; the
heads bind the positions alongside the tree.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sa_eventsource.integrity.merkle_tree import HASH_BYTES, leaf_hash
from sa_eventsource.mapping import EVENT_COLUMNS, json_object
from sa_eventsource.store import database_of, event_members

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

NO_POSITIONS = bytes(HASH_BYTES)
"""The hash of no positions."""

_POSITION_BYTES = 8


_COLUMNS = [
    (number, f'"{each.name}":', each.kind.as_json)
    for number, each in enumerate(EVENT_COLUMNS)
    if each.name not in ("position", "transaction_id")
]


def leaf_text(connection: Connection, row: Row[Any]) -> str:
    """Write what is hashed of a row of ``select_raw_events``."""
    if database_of(connection.dialect).stores_only_json:
        # In the order of the columns, which is that of the row: half the time that a dictionary of them takes.
        members = [name + ("null" if row[number] is None else write(row[number])) for number, name, write in _COLUMNS]
        return "{" + ",".join(members) + "}"
    # A text that is not JSON could end a member, and stand for two of another event.
    found = event_members(row)
    del found["position"]
    return json_object(found)


def hash_of_event(connection: Connection, row: Row[Any]) -> bytes:
    """Hash a row of ``select_raw_events`` as a leaf."""
    return leaf_hash(leaf_text(connection, row).encode("utf-8", "surrogatepass"))


def with_position(positions_hash: bytes, position: int) -> bytes:
    """Hash a further position."""
    return sha256(positions_hash + packed([position])).digest()


def packed(positions: list[int]) -> bytes:
    """Write positions in 8 bytes each."""
    return b"".join(each.to_bytes(_POSITION_BYTES, "big", signed=True) for each in positions)


def unpacked(data: bytes) -> list[int]:
    """Read what :func:`packed` has written; what is left over at the end is passed over."""
    return [
        int.from_bytes(data[begin : begin + _POSITION_BYTES], "big", signed=True)
        for begin in range(0, len(data) - _POSITION_BYTES + 1, _POSITION_BYTES)
    ]


def hashes_in(data: bytes) -> list[bytes]:
    """Take hashes apart that stand one behind the other; what is left over at the end is passed over."""
    return [data[begin : begin + HASH_BYTES] for begin in range(0, len(data) - HASH_BYTES + 1, HASH_BYTES)]
