"""The columns of the event log, each once: its name, what the database stores in it, and how a value is written as JSON.

The table, the SELECTs of events, the JSON arrays in which many events are sent to PostgreSQL, and the lines of an export follow
from these.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import BigInteger, Column, DateTime, Identity, Integer, SmallInteger, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from sa_eventsource.mapping.column_types import (
    DOCUMENT,
    MAX_NAME_LENGTH,
    XID8,
    TransactionId,
    UtcDateTime,
    current_transaction_id,
    database_clock,
)
from sa_eventsource.mapping.partitions import PARTITION_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from sqlalchemy.types import TypeEngine

GivenBy: TypeAlias = Literal["append", "log", "database"]
"""Who gives a column's value: whoever appends; the log that recorded the event first, where it is moved; the database always."""


as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Writes a value as JSON text, with characters beyond ASCII as they are."""


def _quoted(value: object) -> str:
    return f'"{value}"'


def _quoted_moment(moment: datetime) -> str:
    return f'"{(moment if moment.tzinfo is UTC else moment.astimezone(UTC)).isoformat()}"'


@dataclass(frozen=True, slots=True)
class ValueKind:
    """What a column holds.

    Attributes:
        type: The column's type.
        recordset: The type by which PostgreSQL reads it from a JSON array.
        as_json: Writes a value, which is not None, as JSON text.
    """

    type: TypeEngine[Any]
    recordset: TypeEngine[Any]
    as_json: Callable[[Any], str]


_NAME = ValueKind(String(MAX_NAME_LENGTH), Text(), encode_basestring)  # what as_json does to a text, in C
_UUID = ValueKind(Uuid(), Uuid(), _quoted)
_MOMENT = ValueKind(UtcDateTime(), DateTime(timezone=True), _quoted_moment)
_DOCUMENT = ValueKind(DOCUMENT, JSONB(), str)  # the text that is stored
_VERSION = ValueKind(Integer(), Integer(), str)
_SMALL = ValueKind(SmallInteger(), SmallInteger(), str)
_POSITION = ValueKind(BigInteger(), BigInteger(), str)
_TRANSACTION = ValueKind(TransactionId(), XID8(), _quoted)


@dataclass(frozen=True, slots=True)
class EventColumn:
    """One column of the log.

    Attributes:
        name: Its name.
        kind: What it holds.
        given_by: Who gives its value.
        is_nullable: Whether an event may have none.
        default: Makes what the database puts in where nothing is given.
    """

    name: str
    kind: ValueKind
    given_by: GivenBy = "append"
    is_nullable: bool = False
    default: Callable[[], Any] | None = None

    def column(self, *, is_partitioned: bool = False) -> Column[Any]:
        """Make the column of a table; in a partitioned one, the key by which it is contains what is unique."""
        if self.name == "event_id" or (is_partitioned and self.name == PARTITION_KEY):
            return Column(self.name, self.kind.type, primary_key=True)
        if self.name == "position" and not is_partitioned:
            return Column(self.name, self.kind.type, Identity(always=False), nullable=False)
        default = None if self.default is None else self.default()
        return Column(self.name, self.kind.type, nullable=self.is_nullable, server_default=default)


EVENT_COLUMNS = (
    EventColumn("event_id", _UUID),
    EventColumn("aggregate_type", _NAME),
    EventColumn("aggregate_id", _NAME),
    EventColumn("version", _VERSION),
    EventColumn("event_type", _NAME),
    EventColumn("event_version", _SMALL, default=lambda: text("1")),
    EventColumn("event_data", _DOCUMENT),
    EventColumn("metadata", _DOCUMENT, is_nullable=True),
    EventColumn("occurred_at", _MOMENT),
    EventColumn("correlation_id", _UUID, is_nullable=True),
    EventColumn("causation_id", _UUID, is_nullable=True),
    EventColumn("position", _POSITION, "database"),
    EventColumn("transaction_id", _TRANSACTION, "database", default=current_transaction_id),
    EventColumn("recorded_at", _MOMENT, "log", default=database_clock),
)

APPENDED = tuple(each.name for each in EVENT_COLUMNS if each.given_by == "append")
"""What an append gives; the database adds position, transaction id and the time of recording."""

MOVED = (*APPENDED, "recorded_at")
"""What is given for events that another log has recorded."""

EXPORTED = ("position", *MOVED)
"""What is shown of an event outside of its database; a transaction's id means nothing there."""

READ = tuple(each.name for each in EVENT_COLUMNS if each.name not in ("event_version", "transaction_id", "recorded_at"))
"""What a read model's declared fields can be made of."""

DOCUMENTS = tuple(each.name for each in EVENT_COLUMNS if each.kind is _DOCUMENT)

KINDS = {each.name: each.kind for each in EVENT_COLUMNS}
_as_json = {each.name: each.kind.as_json for each in EVENT_COLUMNS}


def json_members(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Write the columns of an event as JSON texts by name, ``null`` for those it has no value of.

    Payload and metadata are taken over as the text they are, so that no number loses a digit.
    """
    return {name: "null" if values[name] is None else _as_json[name](values[name]) for name in names}


def json_object(members: Mapping[str, str]) -> str:
    """Write a JSON object whose values are JSON texts already."""
    return "{" + ",".join([f"{as_json(name)}:{text}" for name, text in members.items()]) + "}"


def json_rows(names: Iterable[str]) -> Callable[[Mapping[str, Any], int | None], str]:
    """Make the function that writes an event as an element of the JSON array that an INSERT reads.

    Args:
        names: The columns that are given.

    Returns:
        The function. It takes the columns' values by name, payload and metadata as JSON text; and the version that must be stored
        already, or None where nothing is checked.
    """
    columns = [(name, f'"{name}":', _as_json[name]) for name in names]

    def write(values: Mapping[str, Any], follows: int | None) -> str:
        members = [begin + write_value(values[name]) for name, begin, write_value in columns if values[name] is not None]
        if follows is not None:
            members.append(f'"follows":{follows}')
        return "{" + ",".join(members) + "}"

    return write
