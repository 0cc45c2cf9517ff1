"""Which values of an event class come back from JSON as they were, proven from the schema that Pydantic made of the class.

The proof is a list of what is known to be exact, never of what is known not to be: a schema of another kind, a setting that is not
listed here, a serializer or a validator ends it, and the event is read back and compared instead. It is a statement about values of
exactly the types that reading makes. An instance of a subclass, a ``datetime`` of another library or a number that nobody validated
is found by its type, so nothing here depends on which classes exist.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from math import isfinite
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from uuid import UUID

from sa_eventsource.events.value_tests import Proof, Test, all_of, fields_test, has_whole_offset, never, with_rules

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from collections.abc import Set as AbstractSet

    from sa_eventsource.events.domain_event import DomainEvent

Schema: TypeAlias = "dict[str, Any]"

_BOUNDS = frozenset({"le", "ge", "lt", "gt"})
_LENGTHS = frozenset({"min_length", "max_length"})

_RULES: dict[str, AbstractSet[str]] = {
    "none": frozenset(),
    "bool": frozenset(),
    "str": _LENGTHS | {"pattern", "regex_engine"},
    "int": _BOUNDS | {"multiple_of"},
    "float": _BOUNDS | {"multiple_of"},
    "decimal": _BOUNDS | {"multiple_of", "max_digits", "decimal_places"},
    "uuid": frozenset({"version"}),
    "bytes": _LENGTHS,
    "date": _BOUNDS,
    "time": _BOUNDS,
    "datetime": _BOUNDS,
    "timedelta": _BOUNDS,
    "list": _LENGTHS,
    "set": _LENGTHS,
    "frozenset": _LENGTHS,
    "tuple": _LENGTHS,
    "dict": _LENGTHS,
}
"""What may stand in a schema and refuses values, but changes none."""

_SETTINGS: dict[str, frozenset[Any] | None] = {
    "title": None,
    "frozen": None,
    "allow_inf_nan": None,
    "ser_json_bytes": None,
    "val_json_bytes": None,
    "ser_json_inf_nan": None,
    "from_attributes": None,
    "hide_input_in_errors": None,
    "validate_assignment": None,
    "validate_default": None,
    "extra_fields_behavior": frozenset({"ignore", "forbid"}),
    "ser_json_timedelta": frozenset({"iso8601"}),
    "ser_json_temporal": frozenset({"iso8601"}),
}
"""Settings of a model under which the proof holds, and with which values; None for any. Whether bytes are read as they are written
is asked where there are bytes; numbers that JSON does not have are found by value."""

_PLAIN: dict[str, type[Any]] = {
    "none": NoneType,
    "bool": bool,
    "str": str,
    "int": int,
    "decimal": Decimal,  # NaN and infinity are found in the text
    "uuid": UUID,
    "date": date,
    "timedelta": timedelta,
}
"""Kinds whose values all come back."""

_KEYS = frozenset({"str", "int", "uuid", "date"})
"""Kinds whose values are also written as the keys of an object, one text for each."""


class NotProvenError(Exception):
    """Nothing is known of a schema."""


def proof_of(event_class: type[DomainEvent]) -> Proof | None:
    """Find what must hold of an event of a class for it to come back; None if its schema does not tell."""
    try:
        return Prover().prove(cast("Schema", event_class.__pydantic_core_schema__), {})
    except NotProvenError:
        return None


class Prover:
    """Goes through a schema from the outside in."""

    def __init__(self) -> None:
        self._definitions: dict[str, Schema] = {}
        self._within: list[str] = []

    def prove(self, schema: Schema, config: Schema) -> Proof:
        """Prove a schema that stands within a model of these settings.

        Raises:
            NotProvenError: It is not on the list.
        """
        kind: str = schema["type"]
        rules = _RULES.get(kind, frozenset())
        if kind in _PLAIN:
            allow(schema, rules, {"allow_inf_nan"} if kind == "decimal" else ())
            found = Proof(_PLAIN[kind], is_immutable=True)
        else:
            method = getattr(self, f"_prove_{kind.replace('-', '_')}", None)
            if method is None:
                raise NotProvenError(kind)
            found = method(schema, config)
        return found if rules.isdisjoint(schema) else with_rules(found, schema, rules)

    # Values -----------------------------------------------------------------------------------------------------------------------

    def _prove_float(self, schema: Schema, _config: Schema) -> Proof:
        allow(schema, _RULES["float"], {"allow_inf_nan"})
        return Proof(float, isfinite, is_immutable=True)

    def _prove_bytes(self, schema: Schema, config: Schema) -> Proof:
        allow(schema, _RULES["bytes"])
        if config.get("ser_json_bytes", "utf8") != config.get("val_json_bytes", "utf8"):
            raise NotProvenError
        return Proof(bytes, is_immutable=True)

    def _prove_datetime(self, schema: Schema, _config: Schema) -> Proof:
        allow(schema, _RULES["datetime"], {"tz_constraint", "microseconds_precision"})
        if schema.get("tz_constraint", "aware") != "aware" or schema.get("microseconds_precision", "truncate") != "truncate":
            raise NotProvenError
        return Proof(datetime, has_whole_offset)  # not as immutable: it comes back without its zone's name

    def _prove_time(self, schema: Schema, _config: Schema) -> Proof:
        allow(schema, _RULES["time"], {"microseconds_precision"})
        if schema.get("microseconds_precision", "truncate") != "truncate":
            raise NotProvenError
        return Proof(time, lambda value: value.tzinfo is None or has_whole_offset(value))

    def _prove_literal(self, schema: Schema, _config: Schema) -> Proof:
        allow(schema, {"expected"})
        expected = frozenset(schema["expected"])
        return Proof(_one_readable_type(expected), expected.__contains__, is_immutable=True)

    def _prove_enum(self, schema: Schema, _config: Schema) -> Proof:
        allow(schema, {"cls", "members", "sub_type"})
        cls: type[Enum] = schema["cls"]
        if issubclass(cls, Flag) or cls._missing_.__func__ is not Enum._missing_.__func__:  # type: ignore[attr-defined]
            raise NotProvenError  # has values that are no members, or takes a value for another's member
        _one_readable_type([member.value for member in schema["members"]])
        return Proof(cls, is_immutable=True)

    # What holds values ------------------------------------------------------------------------------------------------------------

    def _prove_nullable(self, schema: Schema, config: Schema) -> Proof:
        allow(schema, {"schema"})
        inner = self.prove(schema["schema"], config)
        test = inner.whole
        return Proof(None, lambda value: value is None or test(value), inner.has_rules, is_immutable=inner.is_immutable)

    def _prove_default(self, schema: Schema, config: Schema) -> Proof:
        allow(schema, {"schema", "default", "default_factory", "default_factory_takes_data", "validate_default", "copy_default"})
        return self.prove(schema["schema"], config)

    def _prove_list(self, schema: Schema, config: Schema) -> Proof:
        allow(schema, {"items_schema"}, _RULES["list"])
        items = self._prove_items(schema, config)
        return Proof(list, all_of(items), items.has_rules)

    def _prove_set(self, schema: Schema, config: Schema) -> Proof:
        return self._prove_any_set(schema, config, set)

    def _prove_frozenset(self, schema: Schema, config: Schema) -> Proof:
        return self._prove_any_set(schema, config, frozenset)

    def _prove_any_set(self, schema: Schema, config: Schema, kind: type[Any]) -> Proof:
        allow(schema, {"items_schema"}, _RULES["set"])
        items = self._prove_key(schema.get("items_schema"), config, numbers=True)
        return Proof(kind, all_of(items), items.has_rules)

    def _prove_tuple(self, schema: Schema, config: Schema) -> Proof:
        allow(schema, {"items_schema", "variadic_item_index"}, _RULES["tuple"])
        items = [self.prove(each, config) for each in schema["items_schema"]]
        has_rules, is_immutable = any(each.has_rules for each in items), all(each.is_immutable for each in items)
        variadic = schema.get("variadic_item_index")
        if variadic is None:
            tests = [each.whole for each in items]
            return Proof(
                tuple,
                lambda value: len(value) == len(tests) and all(test(each) for test, each in zip(tests, value, strict=True)),
                has_rules,
                is_immutable=is_immutable,
            )
        if len(items) != 1:
            raise NotProvenError
        return Proof(tuple, all_of(items[0]), has_rules, is_immutable=is_immutable)

    def _prove_dict(self, schema: Schema, config: Schema) -> Proof:
        allow(schema, {"keys_schema", "values_schema"}, _RULES["dict"])
        keys = self._prove_key(schema.get("keys_schema"), config, numbers=False)
        values = self._prove_items(schema, config, "values_schema")
        are_keys, are_values = all_of(keys), all_of(values)
        return Proof(dict, lambda value: are_keys(value) and are_values(value.values()), keys.has_rules or values.has_rules)

    def _prove_items(self, schema: Schema, config: Schema, name: str = "items_schema") -> Proof:
        if name not in schema:
            raise NotProvenError
        return self.prove(schema[name], config)

    def _prove_key(self, schema: Schema | None, config: Schema, *, numbers: bool) -> Proof:
        """Prove that the text of a key, or the equality that sets go by, distinguishes what the value does."""
        kind = "any" if schema is None else schema["type"]
        if schema is None or kind not in _KEYS | {"literal", "enum"}:
            raise NotProvenError
        found = self.prove(schema, config)
        named = schema.get("expected", ()) if kind == "literal" else [each.value for each in schema.get("members", ())]
        if not numbers and any(type(each) is not str for each in named):
            raise NotProvenError  # 1 is written as the key "1", and not found among the numbers
        return found

    # Models -----------------------------------------------------------------------------------------------------------------------

    def _prove_model(self, schema: Schema, _config: Schema) -> Proof:
        allow(schema, {"cls", "schema", "config", "generic_origin", "frozen", "revalidate_instances", "extra_behavior"})
        config: Schema = schema.get("config", {})
        check_settings(config)
        if schema.get("extra_behavior", "ignore") == "allow":
            raise NotProvenError
        fields = self._prove_fields(schema["schema"], config)
        test = fields_test(fields)
        types = {name: each.python for name, each in fields.items() if each.python is not None and each.test is None}
        return Proof(
            schema["cls"],
            test,
            has_rules=any(each.has_rules for each in fields.values()),
            fields=types if len(types) == len(fields) else None,
            has_immutable_fields=all(each.is_immutable for each in fields.values()),
        )

    def _prove_fields(self, schema: Schema, config: Schema) -> dict[str, Proof]:
        if schema["type"] != "model-fields":
            raise NotProvenError
        allow(schema, {"fields", "model_name", "from_attributes", "extra_behavior"})
        if schema.get("extra_behavior", "ignore") == "allow":
            raise NotProvenError
        names: set[str] = set()
        proofs: dict[str, Proof] = {}
        for name, each in schema["fields"].items():
            allow(each, {"schema", "frozen", "validation_alias", "serialization_alias"})
            alias = each.get("validation_alias", name)
            if not isinstance(alias, str) or alias != each.get("serialization_alias", name) or alias in names:
                raise NotProvenError
            names.add(alias)
            proofs[name] = self.prove(each["schema"], config)
        return proofs

    def _prove_tagged_union(self, schema: Schema, config: Schema) -> Proof:
        allow(
            schema,
            {"choices", "discriminator", "from_attributes", "custom_error_type", "custom_error_message", "custom_error_context"},
        )
        tag = schema["discriminator"]
        if not isinstance(tag, str):
            raise NotProvenError
        tests: dict[type[Any], Test] = {}
        has_rules = False
        for name, choice in schema["choices"].items():
            resolved = self._resolve(choice)
            if type(name) is not str or name not in _names_of(resolved, tag):
                raise NotProvenError
            found = self.prove(choice, config)
            if found.python is None:
                raise NotProvenError
            tests[found.python] = found.whole
            has_rules = has_rules or found.has_rules
        return Proof(None, lambda value: tests.get(type(value), never)(value), has_rules)

    def _prove_definitions(self, schema: Schema, config: Schema) -> Proof:
        allow(schema, {"schema", "definitions"})
        self.keep(schema["definitions"])
        return self.prove(schema["schema"], config)

    def keep(self, definitions: Sequence[Schema]) -> None:
        """Keep schemas that others refer to."""
        self._definitions.update({each["ref"]: each for each in definitions})

    def _prove_definition_ref(self, schema: Schema, config: Schema) -> Proof:
        allow(schema, {"schema_ref"})
        name = schema["schema_ref"]
        if name in self._within:
            raise NotProvenError  # what holds itself may be nested more deeply than Pydantic reads
        self._within.append(name)
        try:
            return self.prove(self._resolve(schema), config)
        finally:
            self._within.pop()

    def _resolve(self, schema: Any) -> Schema:
        if not isinstance(schema, dict):
            raise NotProvenError
        if schema["type"] == "definition-ref":
            return self._definitions[schema["schema_ref"]]
        return schema


def check_settings(config: Schema) -> None:
    """Refuse the settings of a model under which nothing is known of its values.

    Raises:
        NotProvenError: It has such.
    """
    for name, value in config.items():
        if not is_known_setting(name, value):
            raise NotProvenError(name)


def is_known_setting(name: str, value: Any) -> bool:
    """Check whether it is known what a setting of a model does to its values: nothing that is not asked about elsewhere."""
    return name in _SETTINGS and value in (_SETTINGS[name] or (value,))


def allow(schema: Schema, *known: Collection[str]) -> None:
    """Refuse a schema that says more than is known; what is false or empty says nothing."""
    for key, value in schema.items():
        if value and key not in ("type", "ref", "metadata") and not any(key in each for each in known):
            raise NotProvenError(key)


def _names_of(model: Schema, tag: str) -> Sequence[Any]:
    """The values that a model's tag may have."""
    field = model["schema"].get("fields", {}).get(tag) if model["type"] == "model" else None
    if field is None or "validation_alias" in field:
        return ()
    found: Schema = field["schema"]
    if found["type"] == "default":
        found = found["schema"]
    expected: Sequence[Any] = found.get("expected", ())
    return expected


def _one_readable_type(values: Collection[Any]) -> type[Any]:
    """Get the one type of values that Pydantic looks up when it reads one: texts, or numbers of 64 bits."""
    if values and all(type(each) is str for each in values):
        return str
    if values and all(type(each) is int and -(2**63) <= each < 2**63 for each in values):
        return int  # Pydantic reads a larger one as text, and does not find it
    raise NotProvenError
