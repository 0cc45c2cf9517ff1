"""What must hold of a value for it to come back from JSON as it was: tests that are made once for a class, and cost little.

A test assumes nothing but the types that it asks for itself. Nobody has to have validated a value: not a default, nor what
``model_copy`` and ``model_construct`` were given, nor what was put into a list or a model afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import chain
from operator import ge, gt, itemgetter, le, lt
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet
    from datetime import datetime, time

Test: TypeAlias = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Proof:
    """What must hold of a value for it to come back.

    Attributes:
        python: The one type that it must have; None if *test* says all.
        test: What must hold besides; None if nothing.
        has_rules: Whether reading may refuse such a value by a rule that is not tested: a default, which nobody validated, may
            break its own.
        fields: Of a model for which it is enough, the names of its fields with the types of their values.
        is_immutable: Whether nothing in such a value can change, and nothing tells it from the one that is read back.
        has_immutable_fields: Of a model, whether that holds of the values of its fields. The model itself knows which of them it
            was given.
    """

    python: type[Any] | None
    test: Test | None = None
    has_rules: bool = False
    fields: Mapping[str, type[Any]] | None = None
    is_immutable: bool = False
    has_immutable_fields: bool = False

    @property
    def whole(self) -> Test:
        """The test of both."""
        kind, test = self.python, self.test
        if test is None:
            return lambda value: type(value) is kind
        if kind is None:
            return test
        return lambda value: type(value) is kind and test(value)


def has_whole_offset(value: datetime | time) -> bool:
    """Check whether a time has a zone, and one of whole minutes: the text has no more."""
    offset = value.utcoffset()
    return offset is not None and not offset.seconds % 60 and not offset.microseconds


def never(_value: object) -> bool:
    """Say that nothing is known of a value."""
    return False


def with_rules(found: Proof, schema: Mapping[str, Any], rules: AbstractSet[str]) -> Proof:
    """Add the tests of what a schema asks of a value besides its type; what is not tested here, is read back."""
    tests = [] if found.test is None else [found.test]
    has_rules = found.has_rules
    for rule in rules & schema.keys():
        if rule in _BOUND_TESTS and schema["type"] in ("int", "float", "decimal"):
            if schema["type"] == "decimal":
                tests.append(Decimal.is_finite)  # NaN is not compared with a bound
            tests.append(partial(_BOUND_TESTS[rule], schema[rule]))
        elif rule in _LENGTH_TESTS:
            tests.append(partial(_LENGTH_TESTS[rule], schema[rule]))
        else:
            has_rules = True
    return Proof(found.python, _conjunction(tests), has_rules, is_immutable=found.is_immutable)


def _conjunction(tests: list[Test]) -> Test | None:
    if len(tests) > 1:
        return lambda value: all(test(value) for test in tests)
    return tests[0] if tests else None


_BOUND_TESTS: dict[str, Callable[[Any, Any], bool]] = {"gt": lt, "ge": le, "lt": gt, "le": ge}
"""The bound comes first: a value is greater than 0 if 0 is less than it."""

_LENGTH_TESTS: dict[str, Callable[[int, Any], bool]] = {
    "min_length": lambda least, value: len(value) >= least,
    "max_length": lambda most, value: len(value) <= most,
}


def all_of(items: Proof) -> Test:
    """Make the test of values that all must fulfil one proof."""
    if items.python is not None:
        only, fields = {items.python}, items.fields
        if items.test is None:
            return lambda values: only.issuperset(map(type, values))
        if fields is not None:
            are_models = _models_test(fields)
            return lambda values: only.issuperset(map(type, values)) and are_models(values)
    test = items.whole
    return lambda values: all(map(test, values))


def _models_test(fields: Mapping[str, type[Any]]) -> Test:
    """Make the test of models of one class, which asks for the fields of all of them in one go."""
    names, types = list(fields), list(fields.values())

    def test(models: Any) -> bool:
        values = [each.__dict__ for each in models]
        return [*chain.from_iterable(values)] == names * len(values) and [
            *map(type, chain.from_iterable([each.values() for each in values]))
        ] == types * len(values)

    return test


def fields_test(proofs: Mapping[str, Proof]) -> Test:
    """Make the test of a model, which asks for the names and the types of all fields in one go."""
    names = list(proofs)
    typed = {name: each.python for name, each in proofs.items() if each.python is not None}
    tests = [(name, each.test) for name, each in proofs.items() if each.test is not None]
    expected = list(typed.values())
    if not tests:
        return lambda model: [*model.__dict__] == names and [*map(type, model.__dict__.values())] == expected
    if len(typed) == len(names) and len(tests) == 1:
        ((only, test_only),) = tests
        return lambda model: (
            [*model.__dict__] == names and [*map(type, model.__dict__.values())] == expected and test_only(model.__dict__[only])
        )
    chosen = itemgetter(*typed) if len(typed) > 1 else None
    untyped = tests if chosen is not None else [(name, each.whole) for name, each in proofs.items()]

    def test(model: Any) -> bool:
        values = model.__dict__
        if [*values] != names or (chosen is not None and [*map(type, chosen(values))] != expected):
            return False
        for name, each in untyped:  # noqa: SIM110 - a generator takes twice as long
            if not each(values[name]):
                return False
        return True

    return test
