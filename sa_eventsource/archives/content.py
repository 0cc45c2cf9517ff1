"""What a stream's events come to, and the hash of it.

The hash is SHA-256 over a line that names format, type and id, and a line for each event: version, position, and the hash that the
event has as a leaf of the log's Merkle tree, whether or not the log has one. So where it has one, the tree holds what the manifest
is made of. All that is stored of an event is in it, except for the transaction's id, which means nothing in another cluster.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sa_eventsource.integrity import hash_of_event
from sa_eventsource.store import select_raw_events

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Row, Table

_AT_A_TIME = 1000


@dataclass(frozen=True, slots=True)
class Content:
    """What a stream's events come to.

    Attributes:
        events: How many there are.
        first_position: The position of the first; 0 if there is none.
        last_position: The position of the last.
        sha256: Their hash.
    """

    events: int
    first_position: int
    last_position: int
    sha256: bytes

    def is_of(self, manifest: Row[Any]) -> bool:
        """Check whether it is what a manifest says."""
        return (self.events, self.sha256) == (manifest.events, manifest.sha256)


def content_hash(connection: Connection, events: Table, aggregate_type: str, aggregate_id: str) -> Content:
    """Hash the events of a stream, in the order of versions.

    Args:
        connection: Where to read.
        events: The log, or the table of archived events.
        aggregate_type: The stream's type name.
        aggregate_id: Its id as stored.
    """
    stream = events.c.aggregate_type == aggregate_type, events.c.aggregate_id == aggregate_id
    statement = select_raw_events(events).where(*stream).order_by(events.c.version)
    with connection.execute(statement, execution_options={"yield_per": _AT_A_TIME}) as rows:
        return content_of(connection, rows, aggregate_type, aggregate_id)


def content_of(connection: Connection, rows: Iterable[Row[Any]], aggregate_type: str, aggregate_id: str) -> Content:
    """Hash the events of a stream.

    Args:
        connection: To the database that they are in, or go to.
        rows: As ``select_raw_events`` gives them, in the order of versions.
        aggregate_type: The stream's type name.
        aggregate_id: Its id as stored.
    """
    name = json.dumps([aggregate_type, aggregate_id], ensure_ascii=False)
    digest = sha256(f"sa_eventsource.archive 1 {name}\n".encode("utf-8", "surrogatepass"))
    number, first, last = 0, 0, 0
    for row in rows:
        digest.update(f"{row.version} {row.position} {hash_of_event(connection, row).hex()}\n".encode())
        number, first, last = number + 1, first or row.position, row.position
    return Content(number, first, last, digest.digest())
