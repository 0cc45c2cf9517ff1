"""Strategies for the values that a schema of Pydantic's takes, as far as a log can store them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hypothesis import reject
from hypothesis import strategies as st
from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from sa_eventsource.testing.schema_parts import SchemaParts

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable, Mapping

    from sa_eventsource.testing.schema_parts import Schema

M = TypeVar("M", bound=BaseModel)

LARGEST = 1_000_000
"""Whole numbers are drawn up to this, where the schema says nothing: read models may add them up in a column of four bytes."""

_PLACES = 2
_DIGITS = 9
_LONGEST = 4


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Draw values of an annotation, such as those of a method's parameter.

    A class that Pydantic does not know is left to Hypothesis (``st.register_type_strategy``).
    """
    try:
        adapter = TypeAdapter(annotation)
        parts = SchemaParts(adapter.core_schema)  # type: ignore[arg-type]
    except PydanticSchemaGenerationError:
        return st.from_type(annotation)
    drawn = _Strategies(parts).of(parts.whole)
    return drawn.map(lambda value: _validated(adapter.validate_python, value))


def instances_of(model: type[M], fields: Mapping[str, st.SearchStrategy[Any]] | None = None) -> st.SearchStrategy[M]:
    """Draw instances of a model.

    Args:
        model: The class.
        fields: Strategies for some of its fields, by name.
    """
    parts = SchemaParts.of_model(model)
    given = fields or {}
    strategies = _Strategies(parts)
    required: dict[Any, st.SearchStrategy[Any]] = {}
    optional: dict[Any, st.SearchStrategy[Any]] = {}
    for each in parts.fields(parts.whole):
        of_field = given[each.name] if each.name in given else strategies.of(each.schema)
        (required if each.is_required or each.name in given else optional)[each.key] = of_field
    drawn = st.fixed_dictionaries(required, optional=optional)
    return drawn.map(lambda values: _validated(model.model_validate, values))


def _validated(validate: Callable[[Any], Any], value: Any) -> Any:
    """Have the class take a value; try another one where a validator of its own refuses it."""
    try:
        return validate(value)
    except ValidationError:
        return reject()


class _Strategies:
    """Finds a strategy for each kind of schema."""

    def __init__(self, parts: SchemaParts) -> None:
        """Look into the schema of a model or an annotation."""
        self._parts = parts
        self._made: dict[int, st.SearchStrategy[Any]] = {}

    def of(self, schema: Schema) -> st.SearchStrategy[Any]:
        """Find the strategy for a schema."""
        schema = self._parts.core(schema)
        kind = schema["type"]
        plain = _PLAIN.get(kind)
        if plain is not None:
            return plain(schema)
        key = id(schema)
        if key in self._made:  # it may hold itself
            return self._made[key]
        found: list[st.SearchStrategy[Any]] = []
        self._made[key] = st.deferred(lambda: found[0])
        found.append(self._of_parts(schema, kind))
        return found[0]

    def _of_parts(self, schema: Schema, kind: str) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911 - one for each kind
        match kind:
            case "nullable":
                return st.none() | self.of(schema["schema"])
            case "default":
                return self.of(schema["schema"])
            case "model-fields" | "typed-dict" | "dataclass-args":
                fields = list(self._parts.fields(schema))
                return st.fixed_dictionaries(
                    {each.key: self.of(each.schema) for each in fields if each.is_required},
                    optional={each.key: self.of(each.schema) for each in fields if not each.is_required},
                )
            case "union" | "tagged-union":
                return st.one_of(*(self.of(each) for each in self._parts.choices(schema)))
            case "tuple" if schema.get("variadic_item_index") is None:
                return st.tuples(*(self.of(each) for each in schema["items_schema"]))
            case "tuple":
                return st.lists(self.of(schema["items_schema"][-1]), **_sizes(schema)).map(tuple)
            case "list" | "generator":
                return st.lists(self._items(schema), **_sizes(schema))
            case "set" | "frozenset":
                made = st.sets if kind == "set" else st.frozensets
                return made(self._items(schema), **_sizes(schema))
            case "dict":
                keys, values = self._items(schema, "keys_schema"), self._items(schema, "values_schema")
                return st.dictionaries(keys, values, **_sizes(schema))
            case "any":
                return _text({}) | st.integers(-LARGEST, LARGEST) | st.booleans() | st.none()
            case "is-instance":
                return st.from_type(schema["cls"])
        raise TypeError(f"nothing is known of values of the kind {kind!r}; give a strategy for them")

    def _items(self, schema: Schema, name: str = "items_schema") -> st.SearchStrategy[Any]:
        return self.of(schema.get(name, {"type": "str"}))


def _sizes(schema: Schema) -> dict[str, Any]:
    least = schema.get("min_length", 0)
    return {"min_size": least, "max_size": schema.get("max_length", max(_LONGEST, least + 1))}


def _text(schema: Schema) -> st.SearchStrategy[str]:
    pattern = schema.get("pattern")
    if pattern is not None:
        matching: Any = st.from_regex(pattern)
        return cast("st.SearchStrategy[str]", matching.filter(lambda text: "\0" not in text))
    least = schema.get("min_length", 0)
    # PostgreSQL knows no NUL, and UTF-8 no surrogates.
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    return st.text(characters, min_size=least, max_size=schema.get("max_length", max(20, least)))


def _integers(schema: Schema) -> st.SearchStrategy[int]:
    low, high = schema.get("ge", schema.get("gt", -LARGEST - 1) + 1), schema.get("le", schema.get("lt", LARGEST + 1) - 1)
    step = schema.get("multiple_of", 1)
    if "ge" not in schema and "gt" not in schema:
        low = min(low, high - 1000)
    if "le" not in schema and "lt" not in schema:
        high = max(high, low + 1000)
    return st.integers(-(-low // step), high // step).map(lambda number: number * step)


def _decimals(schema: Schema) -> st.SearchStrategy[Decimal]:
    places = schema.get("decimal_places", _PLACES)
    whole = max(0, min(schema.get("max_digits", _DIGITS), _DIGITS) - places)
    limit = Decimal(10) ** whole - Decimal(1).scaleb(-places)
    step = Decimal(1).scaleb(-places)
    low = max(schema.get("ge", -limit), schema["gt"] + step if "gt" in schema else -limit)
    high = min(schema.get("le", limit), schema["lt"] - step if "lt" in schema else limit)
    drawn = st.integers(_steps(low, step, up=True), _steps(high, step, up=False)).map(lambda number: number * step)
    multiple = schema.get("multiple_of")
    return drawn if multiple is None else drawn.map(lambda number: number - number % multiple)


def _steps(value: Decimal, step: Decimal, *, up: bool) -> int:
    whole = int(value / step)
    return whole + 1 if up and whole * step < value else whole - 1 if not up and whole * step > value else whole


def _floats(schema: Schema) -> st.SearchStrategy[float]:
    low, high = schema.get("ge", schema.get("gt")), schema.get("le", schema.get("lt"))
    return st.floats(
        low,
        high,
        exclude_min="ge" not in schema and "gt" in schema,
        exclude_max="le" not in schema and "lt" in schema,
        allow_nan=False,
        allow_infinity=False,
    ).map(lambda number: number + 0.0)  # PostgreSQL's numbers know no negative zero


_FIRST, _LAST = datetime(1970, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001 - Hypothesis adds the zone
_OFFSETS = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))])


def _moments(schema: Schema) -> st.SearchStrategy[datetime]:
    """Draw moments with a zone, as those without one cannot be stored."""
    low, high = _FIRST, _LAST
    if schema.get("now_op") == "past":
        high = datetime(2020, 1, 1)  # noqa: DTZ001 - Hypothesis adds the zone
    elif schema.get("now_op") == "future":
        low, high = datetime(3000, 1, 1), datetime(3100, 1, 1)  # noqa: DTZ001 - Hypothesis adds the zone
    zones = st.none() if schema.get("tz_constraint") == "naive" else _OFFSETS
    return st.datetimes(low, high, timezones=zones)


def _days(schema: Schema) -> st.SearchStrategy[date]:
    low, high = {"past": (1970, 2020), "future": (3000, 3100)}.get(schema.get("now_op", ""), (1970, 2100))
    return st.dates(max(date(low, 1, 1), schema.get("ge", date.min)), min(date(high, 1, 1), schema.get("le", date.max)))


def _spans(schema: Schema) -> st.SearchStrategy[timedelta]:
    low: Any = schema.get("ge", schema.get("gt", timedelta(days=-1000)))
    high: Any = schema.get("le", schema.get("lt", timedelta(days=1000)))
    return st.timedeltas(low, high)


def _members(schema: Schema) -> st.SearchStrategy[Any]:
    cls: type[enum.Enum] = schema["cls"]
    return st.sampled_from(list(cls))


_PLAIN: dict[str, Callable[[Schema], st.SearchStrategy[Any]]] = {
    "none": lambda _schema: st.none(),
    "bool": lambda _schema: st.booleans(),
    "str": _text,
    "bytes": lambda schema: st.binary(min_size=schema.get("min_length", 0), max_size=schema.get("max_length", 20)),
    "int": _integers,
    "decimal": _decimals,
    "float": _floats,
    "uuid": lambda schema: st.uuids(version=schema.get("version")),
    "datetime": _moments,
    "date": _days,
    "time": lambda _schema: st.times(),
    "timedelta": _spans,
    "literal": lambda schema: st.sampled_from(schema["expected"]),
    "enum": _members,
    "url": lambda schema: st.sampled_from([f"{each}://example.com/" for each in schema.get("allowed_schemes", ["https"])]),
}
