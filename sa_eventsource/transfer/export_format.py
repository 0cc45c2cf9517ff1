"""What an exported log consists of, in lines of JSON or in Parquet: a header, then an event each, as named JSON texts.

Numbers are not read as floats: each member keeps the text that it had.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sa_eventsource.arguments import EARLIEST, LATEST
from sa_eventsource.mapping import EXPORTED, MAX_NAME_LENGTH, as_json
from sa_eventsource.store import recording_time
from sa_eventsource.transfer.json_members import Member, MemberError, unstorable, unstorable_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sa_eventsource.transfer.exported_rows import ExportedRow, Readable

FORMAT = "sa_eventsource.events"
FORMAT_VERSION = 2
"""What is written. Version 1, which is read too, has no ``recorded_at``."""

_FIELDS = {1: tuple(name for name in EXPORTED if name != "recorded_at"), 2: EXPORTED}
"""The members of an event, all of which must be there, by version of the format."""

_MAX_POSITION = 2**63 - 1
_MAX_VERSION = 2**31 - 1
_MAX_EVENT_VERSION = 2**15 - 1
_INTEGER = re.compile(r"(?:0|[1-9][0-9]{0,18})")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TOO_FINE = re.compile(r"[.,][0-9]{7}")
_SHOWN = 60
"""How much of a wrong value a message repeats."""


@dataclass(frozen=True, slots=True)
class ImportedEvent:
    """An event as its row says it.

    Attributes:
        row: The row it was read from.
        position: Its place in the log that was exported.
        event_id: Its id.
        aggregate_type: Type name of the stream.
        aggregate_id: Id of the stream.
        version: Its place in the stream, from 1.
        event_type: Its stored name.
        event_version: The version of its shape.
        occurred_at: When it happened, in UTC.
        recorded_at: When it was written to the log, in UTC; as nearly as it can be known where the row does not say it.
        event_data: Its payload's JSON text, as it stands in the row.
        metadata: The JSON text of its metadata, or None.
        correlation_id: The business transaction it belongs to.
        causation_id: The event that caused it.
    """

    row: ExportedRow
    position: int
    event_id: UUID
    aggregate_type: str
    aggregate_id: str
    version: int
    event_type: str
    event_version: int
    occurred_at: datetime
    recorded_at: datetime
    event_data: str
    metadata: str | None
    correlation_id: UUID | None
    causation_id: UUID | None

    @property
    def stream(self) -> tuple[str, str]:
        """Type name and id of the stream."""
        return self.aggregate_type, self.aggregate_id


def header(exported_at: datetime, count: int | None = None) -> str:
    """Write the header, which a file of lines begins with.

    Args:
        exported_at: When the export began, with a time zone.
        count: How many events follow, where that is certain; an import then knows a file that was cut off.
    """
    values: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION, "exported_at": exported_at.isoformat()}
    return as_json(values if count is None else {**values, "count": count})


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says.

    Attributes:
        format_version: Version of the format.
        count: How many events follow, where it says so.
    """

    format_version: int
    count: int | None


def read_header(row: Readable) -> Header:
    """Read the header.

    Raises:
        MemberError: It is no header, or that of another format.
    """
    members = row.members()
    if "format" not in members or members["format"].value != FORMAT:
        raise MemberError("format", f"there must be the header of an export first, with the format {FORMAT!r}")
    _check_names(members, required=("format", "format_version", "exported_at"), optional=("count",))
    version = next((number for number in _FIELDS if members["format_version"].text == str(number)), None)
    if version is None:
        given = _shown(members["format_version"])
        raise MemberError("format_version", f"{given} is not known; this release reads versions 1 to {FORMAT_VERSION}")
    _time(members["exported_at"], "exported_at")
    return Header(version, _integer(members["count"], "count", 0, _MAX_POSITION) if "count" in members else None)


def read_event(row: ExportedRow, format_version: int = FORMAT_VERSION) -> ImportedEvent:
    """Read an event.

    Args:
        row: Its row.
        format_version: Version of the format, as the header says it.

    Raises:
        MemberError: It does not fit the format, or holds what the log cannot.
    """
    members = row.members()
    _check_names(members, required=_FIELDS[format_version], version=format_version)
    data, metadata = members["event_data"], members["metadata"]
    if data.value is None:
        raise MemberError("event_data", "it is null; every event has a payload")
    if metadata.value is not None and not isinstance(metadata.value, dict):
        raise MemberError("metadata", f"{_shown(metadata)} is neither an object nor null")
    ids = {
        field: None if members[field].value is None else _uuid(members[field], field)
        for field in ("correlation_id", "causation_id")
    }
    event_id, occurred_at = _uuid(members["event_id"], "event_id"), _time(members["occurred_at"], "occurred_at")
    recorded = members.get("recorded_at")
    return ImportedEvent(
        row=row,
        position=_integer(members["position"], "position", 0, _MAX_POSITION),
        event_id=event_id,
        aggregate_type=_name(members["aggregate_type"], "aggregate_type"),
        aggregate_id=_name(members["aggregate_id"], "aggregate_id"),
        version=_integer(members["version"], "version", 1, _MAX_VERSION),
        event_type=_name(members["event_type"], "event_type"),
        event_version=_integer(members["event_version"], "event_version", 1, _MAX_EVENT_VERSION),
        occurred_at=occurred_at,
        recorded_at=recording_time(event_id, occurred_at) if recorded is None else _time(recorded, "recorded_at"),
        event_data=_document(data, "event_data"),
        metadata=None if metadata.value is None else _document(metadata, "metadata"),
        **ids,
    )


def _check_names(
    members: Mapping[str, Member],
    *,
    required: Sequence[str],
    optional: Sequence[str] = (),
    version: int = FORMAT_VERSION,
) -> None:
    for name in required:
        if name not in members:
            raise MemberError(name, "it is missing")
    for name in members:
        if name not in required and name not in optional:
            raise MemberError(name, f"it is not a field of the format, version {version}")


def _integer(member: Member, field: str, least: int, most: int) -> int:
    if not _INTEGER.fullmatch(member.text) or not least <= int(member.text) <= most:
        raise MemberError(field, f"{_shown(member)} is not an integer from {least} to {most}")
    return int(member.text)


def _name(member: Member, field: str) -> str:
    value = member.value
    if not isinstance(value, str):
        raise MemberError(field, f"{_shown(member)} is not a string")
    if not value:
        raise MemberError(field, "it is empty")
    if len(value) > MAX_NAME_LENGTH:
        raise MemberError(field, f"it has {len(value)} characters, and at most {MAX_NAME_LENGTH} are stored")
    reason = unstorable_text(value)
    if reason is not None:
        raise MemberError(field, reason)
    return value


def _uuid(member: Member, field: str) -> UUID:
    if not isinstance(member.value, str) or not _UUID.fullmatch(member.value):
        raise MemberError(field, f"{_shown(member)} is not a UUID")
    return UUID(member.value)


def _time(member: Member, field: str) -> datetime:
    try:
        moment = datetime.fromisoformat(member.value)
    except (TypeError, ValueError):
        raise MemberError(field, f"{_shown(member)} is not a time in ISO 8601") from None
    if moment.tzinfo is None:
        raise MemberError(field, f"{_shown(member)} has no offset; write it, such as +00:00")
    if _TOO_FINE.search(member.value):
        raise MemberError(field, f"{_shown(member)} is finer than microseconds, which is all that is stored")
    if not EARLIEST <= moment < LATEST:
        raise MemberError(field, f"{_shown(member)} could not be read back from the log; it must lie from {EARLIEST} to {LATEST}")
    return moment.astimezone(UTC)


def _document(member: Member, field: str) -> str:
    if "\\u" in member.text or not member.text.isascii():
        for path, reason in unstorable(member.value, field):
            raise MemberError(path, reason)
    return member.text


def _shown(member: Member) -> str:
    return member.text if len(member.text) <= _SHOWN else f"{member.text[:_SHOWN]}..."
