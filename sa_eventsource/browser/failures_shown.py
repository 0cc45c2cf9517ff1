"""What a reader is told when a page cannot be shown."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sa_eventsource.application_errors import text_of
from sa_eventsource.exceptions import AggregateNotFoundError, EventSourceError, StreamArchivedError, UnknownNameError
from sa_eventsource.store import (
    CANCELED,
    LOCK_NOT_AVAILABLE,
    NOT_ALLOWED,
    UNDEFINED_TABLE,
    Meaning,
    code_of,
    meaning_of,
    said_by_database,
)

if TYPE_CHECKING:
    from sa_eventsource.browser.page import Visit

ACCESS = "sa_eventsource.access"
"""Where a request keeps the ``Access`` of its sender, once that is known."""

_STATUS: dict[type[Exception], int] = {AggregateNotFoundError: 404, UnknownNameError: 404, StreamArchivedError: 410}


def failure_page(visit: Visit, error: Exception, *, seconds: float, is_admitted: bool) -> Response:
    """Make the page that says why another one cannot be shown.

    What an unexpected error says is not shown: it may hold what the reader is not to see. The server logs it.

    Args:
        visit: The request.
        error: What was raised.
        seconds: How long a statement may take.
        is_admitted: Whether the sender may see anything, the navigation too.
    """
    status, message = _said(error, seconds) if is_admitted or isinstance(error, HTTPException) else _UNEXPECTED
    headers = dict(getattr(error, "headers", None) or {})
    if status in _WITHOUT_PAGE or (HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST):
        return Response(status_code=status, headers=headers)
    response = visit.render(
        "failure.html", status=status, heading=HTTPStatus(status).phrase, message=message, is_admitted=is_admitted
    )
    response.headers.update(headers)
    return response


_WITHOUT_PAGE = (204, 304)


def _said(error: Exception, seconds: float) -> tuple[int, str]:
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    if isinstance(error, EventSourceError):
        return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 409), text_of(error)
    if isinstance(error, DBAPIError) and error.orig is not None:
        return _said_by_database(error, seconds)
    if isinstance(error, PoolTimeoutError):
        return _ALL_IN_USE
    return _UNEXPECTED


_UNEXPECTED = 500, "Something went wrong. The server's log has the error."
_ALL_IN_USE = (
    503,
    "All connections to the database are in use. Try again in a while, or give the browser an engine with a larger pool.",
)
_LOCKED = 503, "Another transaction holds a lock that this has to wait for, mostly a worker at its work. Try again in a while."


def _said_by_database(error: DBAPIError, seconds: float) -> tuple[int, str]:
    code = code_of(error)
    said = "" if error.orig is None else said_by_database(error.orig)
    if code == CANCELED:
        return 503, f"This took longer than {seconds:g} s, and was ended. Narrow it down: by type, by aggregate, by time."
    if code == LOCK_NOT_AVAILABLE:
        return _LOCKED
    if code == UNDEFINED_TABLE or said.startswith("no such table"):
        return 503, f"{said}. Create the tables first, with a migration or Base.metadata.create_all()."
    if meaning_of(error) is Meaning.BAD_VALUES:
        return 400, f"The database cannot read what was asked for: {said}"
    if code == NOT_ALLOWED:
        return 403, f"{said}. The browser's role may not read it."
    return 503, f"The database could not answer: {said}"
