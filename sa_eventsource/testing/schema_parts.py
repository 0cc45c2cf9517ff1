"""The schemas that Pydantic has made of models, seen from the values: without what only checks, changes or names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

Schema: TypeAlias = "dict[str, Any]"

_WRAPPERS = frozenset({"function-after", "function-before", "function-wrap", "model", "dataclass", "nullable-default"})
_PYTHON_SIDE = {"json-or-python": "python_schema", "lax-or-strict": "lax_schema"}


@dataclass(frozen=True, slots=True)
class FieldPart:
    """One field of a model, a dataclass or a typed dict.

    Attributes:
        name: Its name.
        key: The name under which it is given when an instance is made.
        schema: Of its values.
        is_required: Whether it has no default.
    """

    name: str
    key: str
    schema: Schema
    is_required: bool


class SchemaParts:
    """Looks into one schema, which may refer to definitions."""

    def __init__(self, schema: Schema) -> None:
        """Keep what parts of it refer to."""
        self._definitions: dict[str, Schema] = {}
        self.whole = self.core(schema)

    @classmethod
    def of_model(cls, model: type[BaseModel]) -> SchemaParts:
        """Look into a model's schema."""
        if not model.__pydantic_complete__:
            model.model_rebuild()
        schema: Any = model.__pydantic_core_schema__
        return cls(schema)

    @classmethod
    def of_type(cls, annotation: Any) -> SchemaParts:
        """Look into the schema of any annotation that Pydantic knows."""
        schema: Any = TypeAdapter(annotation).core_schema
        return cls(schema)

    def core(self, schema: Schema) -> Schema:
        """Take off what is around the schema of the values: validators, references, the name of a class."""
        while True:
            kind = schema["type"]
            if kind == "definitions":
                self._definitions.update({each["ref"]: each for each in schema["definitions"]})
                schema = schema["schema"]
            elif kind == "definition-ref":
                schema = self._definitions[schema["schema_ref"]]
            elif kind in _WRAPPERS and "schema" in schema:
                schema = schema["schema"]
            elif kind in _PYTHON_SIDE:
                schema = schema[_PYTHON_SIDE[kind]]
            elif kind == "chain":
                schema = schema["steps"][0]
            else:
                return schema

    def fields(self, schema: Schema) -> Iterator[FieldPart]:
        """List the fields of a core schema that has some."""
        listed: Any = schema.get("fields", {})
        named: Mapping[str, Schema] = listed if isinstance(listed, dict) else {each["name"]: each for each in listed}
        for name, each in named.items():
            inner, is_required = each["schema"], each.get("required", True)
            if inner["type"] == "default":
                inner, is_required = inner["schema"], False
            yield FieldPart(name, _key(name, each.get("validation_alias", name)), inner, is_required)

    def choices(self, schema: Schema) -> list[Schema]:
        """List what a union may be."""
        given: Any = schema["choices"]
        listed = given.values() if isinstance(given, dict) else given
        return [each[0] if isinstance(each, tuple) else each for each in listed if not isinstance(each, str)]


def _key(name: str, alias: Any) -> str:
    if isinstance(alias, str):
        return alias
    first = next(iter(alias), name) if isinstance(alias, list) else name  # the first of several ways to it
    if isinstance(first, list) and len(first) == 1:
        (first,) = first
    return first if isinstance(first, str) else name
