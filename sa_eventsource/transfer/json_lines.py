"""The lines of an export in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sa_eventsource.exceptions import LogImportError
from sa_eventsource.transfer.json_members import members_of
from sa_eventsource.transfer.plain_lines import plain_event

if TYPE_CHECKING:
    from sa_eventsource.transfer.json_members import Member
    from sa_eventsource.transfer.plain_lines import PlainEvent


class JsonLine(NamedTuple):
    """A line.

    Attributes:
        number: Its number, from 1.
        text: Its text, with or without the characters that end it.
    """

    number: int
    text: str

    @property
    def size(self) -> int:
        """How many characters it has."""
        return len(self.text)

    def plain(self) -> PlainEvent | None:
        """Take it apart if it is as an export writes it."""
        return plain_event(self.text)

    def members(self) -> dict[str, Member]:
        """Take the JSON object apart that it is."""
        return members_of(self.text)

    def refused(self, field: str, reason: str) -> LogImportError:
        """Make the error that names the line."""
        return LogImportError(self.number, field, reason)
