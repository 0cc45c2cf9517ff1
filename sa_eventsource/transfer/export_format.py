"""The file format of an exported log: lines of JSON, a header first, then an event each.

Lines are taken apart without reading numbers as floats: each member keeps the text that it had.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sa_eventsource.exceptions import LogImportError
from sa_eventsource.mapping import EXPORTED, MAX_NAME_LENGTH, as_json
from sa_eventsource.store import recording_time
from sa_eventsource.transfer.json_members import Member, MemberError, members_of, unstorable, unstorable_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT = "sa_eventsource.events"
FORMAT_VERSION = 2
"""What is written. Version 1, which is read too, has no ``recorded_at``."""

_FIELDS = {1: tuple(name for name in EXPORTED if name != "recorded_at"), 2: EXPORTED}
"""The members of an event's line, all of which must be there, by version of the format."""

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
    """An event as its line says it.

    Attributes:
        line: Number of the line, from 1.
        position: Its place in the log that was exported.
        event_id: Its id.
        aggregate_type: Type name of the stream.
        aggregate_id: Id of the stream.
        version: Its place in the stream, from 1.
        event_type: Its stored name.
        event_version: The version of its shape.
        occurred_at: When it happened, in UTC.
        recorded_at: When it was written to the log, in UTC; as near as can be told where the line does not say it.
        event_data: Its payload's JSON text, as it stands in the line.
        metadata: The JSON text of its metadata, or None.
        correlation_id: The business transaction it belongs to.
        causation_id: The event that caused it.
    """

    line: int
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
    """Write the first line.

    Args:
        exported_at: When the export began, with a time zone.
        count: How many events follow, where that is certain; an import then knows a file that was cut off.
    """
    values: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION, "exported_at": exported_at.isoformat()}
    return as_json(values if count is None else {**values, "count": count})


@dataclass(frozen=True, slots=True)
class Header:
    """What the first line says.

    Attributes:
        format_version: Version of the format.
        count: How many events follow, where it says so.
    """

    format_version: int
    count: int | None


def read_header(line: str) -> Header:
    """Read the first line.

    Raises:
        LogImportError: It is no header, or that of another format.
    """
    members = _members(line, 1)
    if "format" not in members or members["format"].value != FORMAT:
        raise LogImportError(1, "format", f"the first line must be the header of an export, with the format {FORMAT!r}")
    _check_names(members, 1, required=("format", "format_version", "exported_at"), optional=("count",))
    version = next((number for number in _FIELDS if members["format_version"].text == str(number)), None)
    if version is None:
        given = _shown(members["format_version"])
        raise LogImportError(1, "format_version", f"{given} is not known; this release reads versions 1 to {FORMAT_VERSION}")
    _time(members["exported_at"], 1, "exported_at")
    return Header(version, _integer(members["count"], 1, "count", 0, _MAX_POSITION) if "count" in members else None)


def read_event(line: str, number: int, format_version: int = FORMAT_VERSION) -> ImportedEvent:
    """Read an event's line.

    Args:
        line: The line, with or without the character that ends it.
        number: Its number, for messages.
        format_version: Version of the format, as the header says it.

    Raises:
        LogImportError: It does not fit the format, or holds what the log cannot.
    """
    members = _members(line, number)
    _check_names(members, number, required=_FIELDS[format_version], version=format_version)
    data, metadata = members["event_data"], members["metadata"]
    if data.value is None:
        raise LogImportError(number, "event_data", "it is null; every event has a payload")
    if metadata.value is not None and not isinstance(metadata.value, dict):
        raise LogImportError(number, "metadata", f"{_shown(metadata)} is neither an object nor null")
    ids = {
        field: None if members[field].value is None else _uuid(members[field], number, field)
        for field in ("correlation_id", "causation_id")
    }
    event_id, occurred_at = _uuid(members["event_id"], number, "event_id"), _time(members["occurred_at"], number, "occurred_at")
    recorded = members.get("recorded_at")
    return ImportedEvent(
        line=number,
        position=_integer(members["position"], number, "position", 0, _MAX_POSITION),
        event_id=event_id,
        aggregate_type=_name(members["aggregate_type"], number, "aggregate_type"),
        aggregate_id=_name(members["aggregate_id"], number, "aggregate_id"),
        version=_integer(members["version"], number, "version", 1, _MAX_VERSION),
        event_type=_name(members["event_type"], number, "event_type"),
        event_version=_integer(members["event_version"], number, "event_version", 1, _MAX_EVENT_VERSION),
        occurred_at=occurred_at,
        recorded_at=recording_time(event_id, occurred_at) if recorded is None else _time(recorded, number, "recorded_at"),
        event_data=_document(data, number, "event_data"),
        metadata=None if metadata.value is None else _document(metadata, number, "metadata"),
        **ids,
    )


def _members(line: str, number: int) -> dict[str, Member]:
    try:
        return members_of(line)
    except MemberError as error:
        raise LogImportError(number, error.name, error.reason) from error


def _check_names(
    members: Mapping[str, Member],
    number: int,
    *,
    required: Sequence[str],
    optional: Sequence[str] = (),
    version: int = FORMAT_VERSION,
) -> None:
    for name in required:
        if name not in members:
            raise LogImportError(number, name, "it is missing")
    for name in members:
        if name not in required and name not in optional:
            raise LogImportError(number, name, f"it is not a field of the format, version {version}")


def _integer(member: Member, number: int, field: str, least: int, most: int) -> int:
    if not _INTEGER.fullmatch(member.text) or not least <= int(member.text) <= most:
        raise LogImportError(number, field, f"{_shown(member)} is not an integer from {least} to {most}")
    return int(member.text)


def _name(member: Member, number: int, field: str) -> str:
    value = member.value
    if not isinstance(value, str):
        raise LogImportError(number, field, f"{_shown(member)} is not a string")
    if not value:
        raise LogImportError(number, field, "it is empty")
    if len(value) > MAX_NAME_LENGTH:
        raise LogImportError(number, field, f"it has {len(value)} characters, and at most {MAX_NAME_LENGTH} are stored")
    reason = unstorable_text(value)
    if reason is not None:
        raise LogImportError(number, field, reason)
    return value


def _uuid(member: Member, number: int, field: str) -> UUID:
    if not isinstance(member.value, str) or not _UUID.fullmatch(member.value):
        raise LogImportError(number, field, f"{_shown(member)} is not a UUID")
    return UUID(member.value)


def _time(member: Member, number: int, field: str) -> datetime:
    try:
        moment = datetime.fromisoformat(member.value)
    except (TypeError, ValueError):
        raise LogImportError(number, field, f"{_shown(member)} is not a time in ISO 8601") from None
    if moment.tzinfo is None:
        raise LogImportError(number, field, f"{_shown(member)} has no offset; write it, such as +00:00")
    if _TOO_FINE.search(member.value):
        raise LogImportError(number, field, f"{_shown(member)} is finer than microseconds, which is all that is stored")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise LogImportError(number, field, f"{_shown(member)} is not in the years 1 to 9999 in UTC") from None


def _document(member: Member, number: int, field: str) -> str:
    if "\\u" in member.text or not member.text.isascii():
        for path, reason in unstorable(member.value, field):
            raise LogImportError(number, path, reason)
    return member.text


def _shown(member: Member) -> str:
    return member.text if len(member.text) <= _SHOWN else f"{member.text[:_SHOWN]}..."
