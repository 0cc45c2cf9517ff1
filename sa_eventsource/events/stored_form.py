"""Which fields of a payload the database reads as Pydantic does, proven from the schema that Pydantic made of the event's class.

A validator may strip a text, an alias may name an older key, a serializer may write cents: what such a payload means, only the
class knows. As for exactness (:mod:`~sa_eventsource.events.exactness`), there is a list of what is known to be read plainly;
whatever is not on it, is read by the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sa_eventsource.events.exactness import NotProvenError, Prover, allow, check_settings
from sa_eventsource.events.value_tests import Proof

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sa_eventsource.events.domain_event import DomainEvent
    from sa_eventsource.events.exactness import Schema


def is_stored_plainly(event_class: type[DomainEvent], path: Sequence[str]) -> bool:
    """Check whether what lies at a path of any stored payload is what the class reads there, except for defaults.

    Args:
        event_class: The event.
        path: Names of fields, of the event and of models within it.
    """
    try:
        _Reader().read(cast("Schema", event_class.__pydantic_core_schema__), path)
    except NotProvenError:
        return False
    return True


class _Reader(Prover):
    """Follows a path through the models that lie on it."""

    def read(self, schema: Schema, path: Sequence[str], config: Schema | None = None) -> None:
        """Check what lies at a path.

        Raises:
            NotProvenError: It is not known how the class reads that, or a model on the way.
        """
        if not path:
            self.prove(schema, config or {})
            return
        model = self._model(schema)
        field = model["schema"]["fields"][path[0]]
        allow(field, {"type", "schema", "frozen", "validation_alias", "serialization_alias"})
        alias = field.get("validation_alias", path[0])
        if not isinstance(alias, str) or alias != field.get("serialization_alias", path[0]):
            raise NotProvenError
        self.read(field["schema"], path[1:], model.get("config", {}))

    def _model(self, schema: Schema) -> Schema:
        match schema["type"]:
            case "definitions":
                self.keep(schema["definitions"])
                return self._model(schema["schema"])
            case "definition-ref":
                return self._model(self._resolve(schema))
            case "nullable" | "default":
                allow(schema, {"schema", "default", "default_factory", "default_factory_takes_data", "copy_default"})
                return self._model(schema["schema"])
            case "model":
                allow(schema, {"cls", "schema", "config", "generic_origin", "frozen", "revalidate_instances", "extra_behavior"})
                check_settings(schema.get("config", {}))
                if schema["schema"]["type"] != "model-fields":
                    raise NotProvenError
                return schema
        raise NotProvenError(schema["type"])

    def _prove_any(self, schema: Schema, _config: Schema) -> Proof:
        allow(schema)
        return Proof(None)

    def _prove_default(self, schema: Schema, config: Schema) -> Proof:
        if schema.get("validate_default"):
            raise NotProvenError
        return super()._prove_default(schema, config)

    def _prove_items(self, schema: Schema, config: Schema, name: str = "items_schema") -> Proof:
        return super()._prove_items(schema, config, name) if name in schema else Proof(None)

    def _prove_key(self, schema: Schema | None, config: Schema, *, numbers: bool) -> Proof:
        return Proof(None) if schema is None else super()._prove_key(schema, config, numbers=numbers)


__all__ = ["is_stored_plainly"]
