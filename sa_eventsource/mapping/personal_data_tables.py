"""The tables of personal data: the keys of those whose data it is, who was forgotten, and what was anonymised."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, Text, UniqueConstraint, Uuid, func, text

from sa_eventsource.mapping.column_types import DOCUMENT, MAX_NAME_LENGTH, UtcDateTime


class MasterKeys(Protocol):
    """Where the keys are that wrap the keys of subjects: nobody reads personal data with the database alone."""

    @abstractmethod
    def wrap(self, key: bytes, /) -> tuple[str, bytes]:
        """Wrap the key of a subject with the present master key.

        Returns:
            The id of the master key, 1 to 255 characters, and the wrapped key.
        """

    @abstractmethod
    def unwrap(self, master_key: str, wrapped: bytes, /) -> bytes:
        """Unwrap a key that the master key of an id has wrapped."""


def subject_keys_table(name: str, metadata: MetaData, **where: Any) -> Table:
    """Put the table of keys on a metadata. A key that is destroyed leaves its row: it says that the subject is forgotten.

    Args:
        name: Its name.
        metadata: The application's metadata.
        **where: The schema, if it has one of its own.
    """
    return Table(
        name,
        metadata,
        Column("key_id", Uuid, primary_key=True),
        Column("subject", String(MAX_NAME_LENGTH), nullable=False),
        Column("generation", Integer, nullable=False),
        Column("wrapped_key", LargeBinary, nullable=True),
        Column("master_key", String(MAX_NAME_LENGTH), nullable=True),
        Column("created_at", UtcDateTime, nullable=False, server_default=func.current_timestamp()),
        Column("forgotten_at", UtcDateTime, nullable=True),
        UniqueConstraint("subject", "generation"),
        **where,
    )


def forgotten_subjects_table(name: str, metadata: MetaData, **where: Any) -> Table:
    """Put the table of those who were forgotten on a metadata: whom, who did it, when and why. Arguments as above."""
    return Table(
        name,
        metadata,
        Column("subject", String(MAX_NAME_LENGTH), primary_key=True),
        Column("reason", Text, nullable=False),
        Column("metadata", DOCUMENT, nullable=True),
        Column("correlation_id", Uuid, nullable=True),
        Column("causation_id", Uuid, nullable=True),
        Column("forgotten_at", UtcDateTime, nullable=False),
        **where,
    )


def anonymisations_table(name: str, metadata: MetaData, **where: Any) -> Table:
    """Put the table of anonymisations on a metadata: which fields of events were rewritten, by whom, when, why, and how far.

    Arguments as above.
    """
    return Table(
        name,
        metadata,
        Column("name", String(MAX_NAME_LENGTH), primary_key=True),
        Column("fields", DOCUMENT, nullable=False),
        Column("function", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("metadata", DOCUMENT, nullable=True),
        Column("correlation_id", Uuid, nullable=True),
        Column("causation_id", Uuid, nullable=True),
        Column("begun_at", UtcDateTime, nullable=False),
        Column("position", BigInteger, nullable=False),
        Column("last_position", BigInteger, nullable=False),
        Column("events", BigInteger, nullable=False),
        Column("archived_events", BigInteger, nullable=False, server_default=text("0")),
        Column("models_to_rebuild", DOCUMENT, nullable=False),
        Column("finished_at", UtcDateTime, nullable=True),
        **where,
    )
