"""What an aggregate starts from, where that is not nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sa_eventsource.events import StreamClosed


class SnapshotState(NamedTuple):
    """The state that a snapshot holds.

    Attributes:
        version: The version that it is of.
        fields: The state fields.
        closing: The event that closed the stream, where the state is its last one; None while it is open.
    """

    version: int
    fields: Mapping[str, Any]
    closing: StreamClosed | None = None
