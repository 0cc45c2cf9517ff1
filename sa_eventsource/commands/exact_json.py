"""Commands and results to JSON and back, exactly or not at all."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from sa_eventsource.events import as_text, difference, parsed, refuse_unstorable, shown
from sa_eventsource.exceptions import CommandPayloadError, EventPayloadError


class ExactJson:
    """The way of values of one type to JSON text and back.

    There is no proof from the schema, as events have: every value is read back as the database gives it, and compared.
    """

    def __init__(self, command_type: str, part: Literal["command", "result"], type_: Any) -> None:
        """Name the type, and what the values are in messages."""
        self._command_type = command_type
        self._part: Literal["command", "result"] = part
        self._type = type_

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        try:
            return TypeAdapter(self._type)
        except PydanticUserError as error:
            raise self._error("", f"{shown(self._type)} cannot be written as JSON") from error

    def write(self, value: Any) -> str:
        """Write a value.

        Raises:
            CommandPayloadError: It would not come back exactly.
        """
        adapter = self._adapter
        try:
            refuse_unstorable(self._command_type, value)
            document = parsed(adapter.dump_json(value, by_alias=True, warnings="error").decode())
            refuse_unstorable(self._command_type, document)
        except EventPayloadError as error:
            raise self._error(error.field, error.reason) from error
        except (ValueError, RecursionError) as error:
            raise self._error("", f"it cannot be written as JSON: {error}") from error
        text = as_text(document)
        found = difference(value, self.read(text))
        if found is not None:
            raise self._error(found.path, f"{shown(found.one)} would come back as {shown(found.other)}")
        return text

    def read(self, text: str) -> Any:
        """Read what :meth:`write` has written.

        Raises:
            CommandPayloadError: It does not fit, as where the class has changed since.
        """
        try:
            return self._adapter.validate_json(text)
        except ValueError as error:
            raise self._error("", f"what is stored cannot be read: {error}") from error

    def _error(self, field: str, reason: str) -> CommandPayloadError:
        return CommandPayloadError(self._command_type, self._part, field, reason)
