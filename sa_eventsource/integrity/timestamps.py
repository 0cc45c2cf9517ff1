"""Time stamps on heads by an authority outside (RFC 3161): they show that a head, and so the log, was there at a time."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sa_eventsource.exceptions import ProofError
from sa_eventsource.extras import needs_extra

if TYPE_CHECKING:
    from datetime import datetime

    from sa_eventsource.integrity.tree_heads import Head


def _rfc3161() -> Any:
    """Get the module that needs the package ``rfc3161-client``."""
    with needs_extra("timestamps", part="time-stamping heads"):
        return import_module("sa_eventsource.integrity.rfc3161")


def timestamp_request(head: Head) -> bytes:
    """Write the request by which an authority stamps a head: POST it as ``application/timestamp-query``.

    Args:
        head: The head.

    Raises:
        MissingExtraError: ``rfc3161-client`` is not installed.
    """
    request: bytes = _rfc3161().request_for(head.text)
    return request


def with_timestamp(head: Head, response: bytes) -> Head:
    """Put an authority's response on a head, to be kept with it; :func:`timestamped_at` checks it.

    Args:
        head: The head.
        response: What the authority answered.
    """
    return replace(head, timestamp=response)


def timestamped_at(head: Head, roots: bytes) -> datetime:
    """Check the time stamp on a head; return when the authority saw it.

    Args:
        head: The head.
        roots: The authority's root certificates, in PEM.

    Raises:
        MissingExtraError: ``rfc3161-client`` is not installed.
        ProofError: There is no time stamp, or not of this authority, or for another head.
    """
    if head.timestamp is None:
        raise ProofError(head.name, "it has no time stamp")
    try:
        moment: datetime = _rfc3161().time_of(head.timestamp, head.text, roots)
    except ValueError as error:
        raise ProofError(head.name, f"its time stamp does not hold: {error}") from error
    return moment
