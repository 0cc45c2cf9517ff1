"""Pydantic's core schemas among values to digest, and the error for what cannot be digested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic.errors import PydanticUserError

if TYPE_CHECKING:
    from collections.abc import Iterable


class IndigestibleError(Exception):
    """Something cannot be written as a text that is the same in every process.

    Attributes:
        path: How it was reached, outermost first.
        reason: What it is.
    """

    def __init__(self, path: Iterable[str], reason: str) -> None:
        """Build the message from the path and the reason."""
        self.path = tuple(path)
        self.reason = reason
        super().__init__(f"{' → '.join(self.path)}: {reason}" if self.path else reason)


class CoreSchema:
    """A Pydantic core schema among values to digest: without notes for JSON Schema, and with references that hold no addresses."""

    def __init__(self, schema: Any) -> None:
        """Keep the schema."""
        self._references: dict[str, str] = {}
        try:
            self._schema = self._cleaned(schema)
        except PydanticUserError as error:
            raise IndigestibleError((), f"a Pydantic model is not complete: {error}") from error

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be written as the schema is."""
        return (CoreSchema, (self._schema,))

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self._member(name, each) for name, each in value.items() if name != "metadata"}
        if type(value) in (list, tuple):
            return [self._cleaned(each) for each in value]
        return value

    def _member(self, name: Any, value: Any) -> Any:
        if name in ("ref", "schema_ref") and isinstance(value, str):
            return self._references.setdefault(value, f"reference {len(self._references)}")
        return self._cleaned(value)
