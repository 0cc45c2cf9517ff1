"""The tables that prove a log: the Merkle tree over its events, and what was rewritten on purpose since."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, String, Table, Text, Uuid

from sa_eventsource.mapping.column_types import MAX_NAME_LENGTH, UtcDateTime
from sa_eventsource.mapping.named_indexes import add_index


class SigningKey(Protocol):
    """Who signs the heads of a log: a key outside of the database."""

    @abstractmethod
    def sign(self, data: bytes, /) -> tuple[str, bytes]:
        """Sign with the present key, by Ed25519.

        Returns:
            The id of the key, 1 to 255 characters without white space, and the signature.
        """


def merkle_tree_table(name: str, metadata: MetaData, **where: Any) -> Table:
    """Put the Merkle tree's table on a metadata: a row for each batch of events, with the head of the tree that ends with it.

    Args:
        name: Its name.
        metadata: The application's metadata.
        **where: The schema, if it has one of its own.
    """
    table = Table(
        name,
        metadata,
        Column("tree_size", BigInteger, primary_key=True, autoincrement=False),
        Column("first_position", BigInteger, nullable=False),
        Column("last_position", BigInteger, nullable=False),
        Column("positions", LargeBinary, nullable=False),
        Column("leaf_hashes", LargeBinary, nullable=False),
        Column("node_hashes", LargeBinary, nullable=False),
        Column("root", LargeBinary, nullable=False),
        Column("positions_hash", LargeBinary, nullable=False),
        Column("made_at", UtcDateTime, nullable=False),
        Column("key_id", String(MAX_NAME_LENGTH), nullable=True),
        Column("signature", LargeBinary, nullable=True),
        **where,
    )
    add_index(table.c.last_position)
    return table


def rewritten_events_table(name: str, metadata: MetaData, **where: Any) -> Table:
    """Put the table of events that were rewritten on purpose on a metadata: their hashes before and after. Arguments as above."""
    table = Table(
        name,
        metadata,
        Column("rewriting_id", Uuid, primary_key=True),
        Column("event_id", Uuid, nullable=False),
        Column("former_hash", LargeBinary, nullable=False),
        Column("present_hash", LargeBinary, nullable=False),
        Column("reason", Text, nullable=False),
        Column("rewritten_at", UtcDateTime, nullable=False),
        Column("key_id", String(MAX_NAME_LENGTH), nullable=True),
        Column("signature", LargeBinary, nullable=True),
        **where,
    )
    add_index(table.c.event_id)
    return table
