"""A row of an exported log, whatever the format of its file: a line of JSON, or a row of a Parquet file.

An import asks a row for what it needs of it, and knows no more about the format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sa_eventsource.exceptions import LogImportError
    from sa_eventsource.transfer.json_members import Member
    from sa_eventsource.transfer.plain_lines import PlainEvent


class Readable(Protocol):
    """A place in the file that holds named JSON texts: the header, or an event."""

    def members(self) -> Mapping[str, Member]:
        """Take it apart.

        Raises:
            MemberError: It is not what the format wants.
        """
        ...

    def refused(self, field: str, reason: str) -> LogImportError:
        """Make the error that says where in the file something is wrong.

        Args:
            field: The member that is wrong; empty when all of it is meant.
            reason: What is wrong.
        """
        ...


class ExportedRow(Readable, Protocol):
    """An event in the file."""

    @property
    def size(self) -> int:
        """About how many characters it has."""
        ...

    def plain(self) -> PlainEvent | None:
        """Take it apart if it is as an export writes it; None if it needs a closer look."""
        ...
