"""Errors as RFC 9457 problem details, for whichever web framework."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic_core import to_jsonable_python
from sqlalchemy.exc import DBAPIError, NoResultFound

from sa_eventsource.application_errors import text_of
from sa_eventsource.exceptions import (
    AggregateNotFoundError,
    CommandDiscardedError,
    CommandIdConflictError,
    CommandPayloadError,
    DomainRuleError,
    EventAlreadyAppendedError,
    EventIdConflictError,
    ReadModelLagError,
    StreamClosedError,
)
from sa_eventsource.session import is_conflict

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATUSES: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (AggregateNotFoundError, HTTPStatus.NOT_FOUND),
    (NoResultFound, HTTPStatus.NOT_FOUND),
    (EventAlreadyAppendedError, HTTPStatus.CONFLICT),
    (EventIdConflictError, HTTPStatus.CONFLICT),
    (StreamClosedError, HTTPStatus.CONFLICT),
    (DomainRuleError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (CommandDiscardedError, HTTPStatus.CONFLICT),
    (CommandIdConflictError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (CommandPayloadError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ReadModelLagError, HTTPStatus.SERVICE_UNAVAILABLE),
)


@dataclass(frozen=True, slots=True)
class ProblemDetails:
    """What an HTTP answer says of an error.

    Attributes:
        status: The status code.
        title: The status in words.
        detail: The error's message; None where it is nobody's business outside.
        problem_type: A URI for the kind of problem.
        extensions: Further members: the public attributes of the error, as far as JSON can hold them; not a number without a
            value (``nan``), nor half of a surrogate pair.
        media_type: The content type of the body.
    """

    status: int
    title: str
    detail: str | None = None
    problem_type: str = "about:blank"
    extensions: dict[str, Any] = field(default_factory=dict)
    media_type: ClassVar[str] = "application/problem+json"

    @property
    def body(self) -> dict[str, Any]:
        """The members of the JSON object."""
        standard = {"type": self.problem_type, "title": self.title, "status": self.status, "detail": self.detail}
        return self.extensions | {name: value for name, value in standard.items() if value is not None}


def problem_details(error: BaseException) -> ProblemDetails:
    """Say what an error is to the web.

    ==============================================================================  ======
    a conflict that no retry has resolved, an event that is stored already, a stream
    that is closed, a command that was discarded                                    409
    an aggregate or a row that is not there (``get_one``, ``repository.get``)       404
    a rule broken (:class:`~sa_eventsource.DomainRuleError`), a command whose id is
    another's, or has a value that cannot be stored exactly                         422
    a read model that is late (the command is done)                                 503
    all others, of which the answer says nothing                                    500
    ==============================================================================  ======

    Args:
        error: What was raised; subclasses count as what they inherit from.
    """
    status = _status(error)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR or isinstance(error, DBAPIError):  # whose message has the SQL in it
        return ProblemDetails(status.value, status.phrase)
    problem_type = error.problem_type if isinstance(error, DomainRuleError) else "about:blank"
    return ProblemDetails(status.value, status.phrase, text_of(error), problem_type, dict(_members(error)))


def _status(error: BaseException) -> HTTPStatus:
    if is_conflict(error):
        return HTTPStatus.CONFLICT
    if isinstance(error, CommandPayloadError) and error.part == "result":  # which is nobody's fault outside
        return HTTPStatus.INTERNAL_SERVER_ERROR
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)


def _members(error: BaseException) -> Iterator[tuple[str, Any]]:
    for name, value in vars(error).items():
        if not name.startswith("_"):
            with suppress(Exception):  # whatever the values of the application raise: it is said in the answer without them
                member = to_jsonable_python(value)
                json.dumps({name: member}, allow_nan=False, ensure_ascii=False).encode()
                yield name, member
